//! A filter or an emulator that answers in place of the kernel. Every thread keeps running and says why it has no rseq.

mod between;
mod calls;
mod middle;

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::errno::{E2BIG, EACCES, EBUSY, EINVAL, ENOSYS, EPERM};
use linux_raw_sys::general::__NR_rseq;
use rseq_rt::abi::{CPU_ID_REGISTRATION_FAILED, CPU_ID_UNINITIALIZED};
use rseq_rt::{Area, Error, Owner, Reason, State, Thread};

use super::common::{self, Hooks as _, main_thread};
use crate::errno::Errno;
use crate::harness::{Ctx, Needs, Test, skip};
use crate::hooked::{self, Hooked, RSEQ};
use crate::seccomp::{self, Answer, When};

const SECCOMP: Needs = Needs::SECCOMP;
const SECCOMP_AND_RSEQ: Needs = Needs::SECCOMP.and(Needs::RSEQ);
const ON_TWO_CPUS: Needs = SECCOMP_AND_RSEQ.cpus(2);

#[rustfmt::skip] // a table
pub const TESTS: &[Test] = &[
    Test::new("filtered/enosys-from-the-start", from_start::<ENOSYS>).needs(SECCOMP),
    Test::new("filtered/eperm-from-the-start", from_start::<EPERM>).needs(SECCOMP),
    Test::new("filtered/eacces-from-the-start", from_start::<EACCES>).needs(SECCOMP),
    Test::new("filtered/einval-from-the-start", from_start::<EINVAL>).needs(SECCOMP),
    Test::new("filtered/e2big-from-the-start", from_start::<E2BIG>).needs(SECCOMP),
    Test::new("filtered/ebusy-from-the-start", from_start::<EBUSY>).needs(SECCOMP),
    Test::new("filtered/pretended-from-the-start", from_start::<0>).needs(SECCOMP),
    Test::new("filtered/no-rseq-and-no-filter", not_there),
    Test::new("filtered/enosys-in-the-middle", middle::all::<ENOSYS>).needs(SECCOMP_AND_RSEQ),
    Test::new("filtered/eperm-in-the-middle", middle::all::<EPERM>).needs(SECCOMP_AND_RSEQ),
    Test::new("filtered/eacces-in-the-middle", middle::all::<EACCES>).needs(SECCOMP_AND_RSEQ),
    Test::new("filtered/einval-in-the-middle", middle::all::<EINVAL>).needs(SECCOMP_AND_RSEQ),
    Test::new("filtered/e2big-in-the-middle", middle::all::<E2BIG>).needs(SECCOMP_AND_RSEQ),
    Test::new("filtered/ebusy-in-the-middle", middle::all::<EBUSY>).needs(SECCOMP_AND_RSEQ),
    Test::new("filtered/refused-and-freed-dies", middle::refused_and_freed).needs(ON_TWO_CPUS),
    Test::new("filtered/only-unregistration", middle::only_unregistration).needs(SECCOMP_AND_RSEQ),
    Test::new("filtered/between-registration-and-confirmation", between::confirmed).needs(SECCOMP_AND_RSEQ),
    Test::new("filtered/only-length-32", calls::only_length_32).needs(SECCOMP_AND_RSEQ),
    Test::new("filtered/no-mask-from-the-start", calls::no_mask_from_start).needs(SECCOMP_AND_RSEQ),
    Test::new("filtered/no-mask-in-the-middle", calls::no_mask_in_middle).needs(SECCOMP_AND_RSEQ),
    Test::new("filtered/no-getcpu", calls::no_getcpu).needs(SECCOMP),
    Test::new("filtered/no-futex", calls::no_futex).needs(SECCOMP),
];

pub const STACK: usize = 16 * 1024;

/// The reason and the errno that a thread reports after such an answer.
pub fn meaning(errno: u32) -> (Reason, Option<rseq_rt::Errno>) {
    let reason = match errno {
        0 => Reason::Pretended,
        ENOSYS => Reason::NoSyscall,
        EPERM | EACCES => Reason::Filtered,
        // The true answer of a kernel that has another area of this thread.
        EINVAL => Reason::Taken,
        _ => Reason::Refused,
    };
    (reason, rseq_rt::Errno::from_raw(errno as u16))
}

/// The reason to keep the memory of such a thread, if any.
pub fn refusal(reason: Reason, errno: Option<rseq_rt::Errno>) -> Option<Error> {
    match (reason, errno) {
        (Reason::Taken, _) => Some(Error::Taken),
        // The kernel's state is unknown.
        (_, Some(errno @ rseq_rt::Errno::BUSY)) => Some(Error::StillRegistered(errno)),
        _ => None,
    }
}

/// A thread without rseq: its state and its area say so, and its CPU is right.
#[track_caller]
pub fn runs_on(area: &Area, reason: Reason, errno: Option<rseq_rt::Errno>) {
    assert_eq!(area.state(), State::Unavailable(reason));
    assert_eq!(area.errno(), errno);
    // Where the kernel may know the area, the ids are not stored to.
    let expected = match errno {
        Some(rseq_rt::Errno::BUSY) => CPU_ID_UNINITIALIZED,
        _ => CPU_ID_REGISTRATION_FAILED,
    };
    assert_eq!(area.cpu_id(), expected);
    let again = RSEQ.ensure(area);
    assert_eq!(again, Ok(State::Unavailable(reason)));
    common::right_everywhere(area);
}

pub use common::right_everywhere;

/// No filter: the system has no rseq(2), like qemu-user.
fn not_there(ctx: &Ctx) {
    match ctx.facts.rseq {
        Err(Errno(ENOSYS)) => life::<ENOSYS>(ctx),
        answer => skip!("rseq(2) is there: {answer:?}"),
    }
}

fn from_start<const ERRNO: u32>(ctx: &Ctx) {
    seccomp::install(__NR_rseq, When::Always, Answer::Errno(Errno(ERRNO))).unwrap();
    life::<ERRNO>(ctx);
}

/// A process in which every rseq(2) gets this answer.
fn life<const ERRNO: u32>(ctx: &Ctx) {
    static RAN: AtomicU32 = AtomicU32::new(0);
    static AGAIN: Area = Area::new();
    fn body<const ERRNO: u32>(thread: &Thread<'_>, _: &Hooked) {
        // Where the first answer held for all, the kernel was not asked again: there is a reason and no errno.
        let (reason, errno) = meaning(ERRNO);
        let asked = reason != Reason::NoSyscall;
        runs_on(thread.area(), reason, errno.filter(|_| asked));
        RAN.fetch_add(1, Relaxed);
    }
    let (reason, errno) = meaning(ERRNO);
    let main = main_thread(ctx);
    // A filter or a foreign area concerns one thread; a kernel without rseq concerns all.
    let settled = reason == Reason::NoSyscall;
    // Then the kernel was asked once: from here on rseq(2) kills.
    if settled && ctx.facts.seccomp.is_ok() {
        seccomp::install(__NR_rseq, When::Always, Answer::Kill).unwrap();
    }
    let decided = settled.then_some(reason);
    let owner = decided.map(|_| Owner::Nobody);
    assert_eq!(RSEQ.owner(), owner);
    assert_eq!(RSEQ.reason(), decided);
    assert_eq!((RSEQ.length(), RSEQ.feature_size()), (0, 0));
    runs_on(main.area(), reason, errno);
    assert_eq!(RSEQ.current_mm_cid(main.area()), None);
    RSEQ.current_node(main.area()).unwrap();
    let rounds = ctx.scale(50, 5, 5) as u32;
    for _ in 0..rounds {
        common::joined(STACK, body::<ERRNO>, 0);
        common::detached(STACK, body::<ERRNO>, 0);
    }
    assert_eq!(RAN.load(Relaxed), 2 * rounds);
    let ended = RSEQ.scope(&AGAIN).unwrap().end();
    let refusal = refusal(reason, errno);
    assert_eq!(ended, refusal.map_or(Ok(()), Err));
    assert_eq!(hooked::release(main).err(), refusal.map(Some));
    assert_eq!(RSEQ.owner(), owner);
}
