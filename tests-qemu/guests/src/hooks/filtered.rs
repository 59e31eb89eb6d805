//! A filter, or an emulator, that answers in the kernel's place. Every thread runs on and says why it has no rseq.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::errno::{E2BIG, EACCES, EBUSY, EINVAL, ENOSYS, EPERM};
use linux_raw_sys::general::__NR_rseq;
use rseq_rt::abi::{CPU_ID_REGISTRATION_FAILED, CPU_ID_UNINITIALIZED};
use rseq_rt::{Area, ClearTid, Error, Owner, Reason, State, Thread};

use super::{filtered_calls as calls, filtered_middle as middle};
use crate::errno::Errno;
use crate::harness::{Ctx, Failed, Needs, PASSED, Test, Verdict, failed};
use crate::hooked::{self, Hooked, RSEQ};
use crate::seccomp::{self, Answer, When};
use crate::stack::Stack;
use crate::sys::process;
use crate::sys::sched::{self, CpuSet};
use crate::{check, text};

const SECCOMP: Needs = Needs::SECCOMP;
const SECCOMP_AND_RSEQ: Needs = Needs::SECCOMP.and(Needs::RSEQ);
const ON_TWO_CPUS: Needs = SECCOMP_AND_RSEQ.cpus(2);

/// The family.
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
    Test::new("filtered/only-length-32", calls::only_length_32).needs(SECCOMP_AND_RSEQ),
    Test::new("filtered/no-mask-from-the-start", calls::no_mask_from_start).needs(SECCOMP_AND_RSEQ),
    Test::new("filtered/no-mask-in-the-middle", calls::no_mask_in_middle).needs(SECCOMP_AND_RSEQ),
    Test::new("filtered/no-getcpu", calls::no_getcpu).needs(SECCOMP),
    Test::new("filtered/no-futex", calls::no_futex).needs(SECCOMP),
];

pub(super) const STACK: usize = 16 * 1024;

/// What the answer means as a thread's state, and as its errno.
pub(super) fn meaning(errno: u32) -> (Reason, Option<rseq_rt::Errno>) {
    let reason = match errno {
        0 => Reason::Pretended,
        ENOSYS => Reason::NoSyscall,
        EPERM | EACCES => Reason::Filtered,
        // The honest answer of a kernel that has another area of this thread.
        EINVAL => Reason::Taken,
        _ => Reason::Refused,
    };
    (reason, rseq_rt::Errno::from_raw(errno as u16))
}

/// Why the memory of such a thread is kept, if it is.
pub(super) fn refusal(reason: Reason, errno: Option<rseq_rt::Errno>) -> Option<Error> {
    match (reason, errno) {
        (Reason::Taken, _) => Some(Error::Taken),
        // Nobody knows what the kernel knows.
        (_, Some(errno @ rseq_rt::Errno::BUSY)) => Some(Error::StillRegistered(errno)),
        _ => None,
    }
}

/// The thread is right about its CPU on each CPU that it may use. For bodies of threads, so it only tells.
#[track_caller]
pub(super) fn right_everywhere(area: &Area) {
    let before = sched::allowed().unwrap_or(CpuSet::empty());
    let tid = process::gettid();
    for cpu in before.iter() {
        if sched::allow(tid, &CpuSet::one(cpu)).is_ok() && RSEQ.current_cpu(area) != Ok(cpu) {
            let _ = failed(text!("current_cpu is wrong on CPU ", cpu));
        }
    }
    let _ = sched::allow(tid, &before);
}

/// A thread without rseq: its state and its area say so, and it is right about its CPU.
#[track_caller]
pub(super) fn runs_on(area: &Area, reason: Reason, errno: Option<rseq_rt::Errno>) {
    if area.state() != State::Unavailable(reason) || area.errno() != errno {
        let _ = failed(text!(
            "the state is not ",
            *reason.as_str(),
            ", or the errno is another: ",
            area.errno().map_or(0, rseq_rt::Errno::raw)
        ));
    }
    // Where the kernel may know the area, nobody stores to its ids.
    let expected = match errno {
        Some(rseq_rt::Errno::BUSY) => CPU_ID_UNINITIALIZED,
        _ => CPU_ID_REGISTRATION_FAILED,
    };
    if area.cpu_id() != expected {
        let _ = failed(text!("cpu_id reads ", area.cpu_id()));
    }
    // SAFETY: ensure_registered (1, 2) the calling thread's own area, known to the hooks.
    if unsafe { RSEQ.ensure_registered(area) } != Ok(State::Unavailable(reason)) {
        let _ = failed(text!("ensure_registered changes its mind"));
    }
    right_everywhere(area);
}

/// Starts a thread that releases and unmaps itself, and waits for its end.
pub(super) fn detached(body: hooked::Body) -> Result<(), Failed> {
    static WORD: ClearTid = ClearTid::new();
    hooked::start_watched(Stack::map(STACK)?, body, 0, &WORD)?;
    match WORD.wait() {
        Ok(reclaimed) => WORD.rearm(&reclaimed),
        Err(error) => check!(false, "the wait: ", error.raw_os_error()),
    }
    Ok(())
}

/// Starts a joinable thread and joins it.
pub(super) fn joined(body: hooked::Body) -> Result<(), Failed> {
    let joined = hooked::start_joinable(STACK, body, 0)?.join();
    check!(joined.is_ok(), "join");
    Ok(())
}

/// No filter: the system itself has no rseq(2), as qemu-user.
fn not_there(ctx: &Ctx<'_>) -> Verdict {
    match ctx.facts.rseq {
        Err(Errno(ENOSYS)) => life::<ENOSYS>(ctx),
        answer => crate::skip!("rseq(2) is there: ", answer),
    }
}

fn from_start<const ERRNO: u32>(ctx: &Ctx<'_>) -> Verdict {
    seccomp::install(__NR_rseq, When::Always, Answer::Errno(Errno(ERRNO)))?;
    life::<ERRNO>(ctx)
}

/// A process whose every rseq(2) is answered so.
fn life<const ERRNO: u32>(ctx: &Ctx<'_>) -> Verdict {
    static RAN: AtomicU32 = AtomicU32::new(0);
    fn body<const ERRNO: u32>(thread: &Thread<'_>, _: &Hooked) {
        // Where the first answer was everybody's, nobody asked the kernel again: there is a reason and no errno.
        let (reason, errno) = meaning(ERRNO);
        let asked = reason != Reason::NoSyscall;
        runs_on(thread.area(), reason, errno.filter(|_| asked));
        RAN.fetch_add(1, Relaxed);
    }
    let (reason, errno) = meaning(ERRNO);
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    // SAFETY: (1) once in this process, on its main thread.
    let Ok(main) = (unsafe { hooked::adopt_main() }) else {
        check!(false, "the create hook failed the main thread");
        return PASSED;
    };
    // A filter, or somebody else's area, is one thread's; a kernel without rseq is everybody's.
    let settled = reason == Reason::NoSyscall;
    // Then the question was asked once: from here on rseq(2) kills.
    if settled && ctx.facts.seccomp.is_ok() {
        seccomp::install(__NR_rseq, When::Always, Answer::Kill)?;
    }
    let decided = settled.then_some(reason);
    check!(RSEQ.owner() == decided.map(|_| Owner::Nobody), "the owner");
    check!(RSEQ.reason() == decided, "the reason of the process");
    check!(RSEQ.length() == 0 && RSEQ.feature_size() == 0, "a length");
    runs_on(main.area(), reason, errno);
    check!(RSEQ.current_mm_cid(main.area()).is_none(), "an mm_cid");
    check!(RSEQ.current_node(main.area()).is_ok(), "no node");
    let rounds = ctx.scale(50, 5, 5) as u32;
    for _ in 0..rounds {
        joined(body::<ERRNO>)?;
        detached(body::<ERRNO>)?;
    }
    check!(
        RAN.load(Relaxed) == 2 * rounds,
        "only ",
        RAN.load(Relaxed),
        " ran"
    );
    static AGAIN: Area = Area::new();
    // SAFETY: scoped (1, 2, 3) AGAIN is nobody else's.
    let ended = unsafe { RSEQ.scoped(&AGAIN) }.map(rseq_rt::Scoped::end);
    let refusal = refusal(reason, errno);
    check!(
        ended == Ok(refusal.map_or(Ok(()), Err)),
        "a scope without rseq"
    );
    check!(
        hooked::release(main).err() == refusal.map(Some),
        "release of the main thread"
    );
    check!(
        RSEQ.owner() == decided.map(|_| Owner::Nobody),
        "the owner changed"
    );
    PASSED
}
