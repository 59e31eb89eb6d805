//! A foreign area: never changed, never unregistered, and without effect on our other threads.

mod late;
pub mod libc;

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::general::__NR_rseq;
use rseq_rt::abi::{CPU_ID_REGISTRATION_FAILED, FLAG_UNREGISTER, Rseq};
use rseq_rt::arch::SIGNATURE;
use rseq_rt::{Area, Claim, Config, Error, Owner, Reason, State, Thread};

use super::common::{
    Hooks as _, at, detached, is_ours, joined, main_thread_with, right_everywhere,
};
use crate::errno::Errno;
use crate::harness::{Ctx, Needs, Test, must_pass};
use crate::hooked::{self, Hooked, RSEQ};
use crate::seccomp::{self, Answer, When};
use crate::sys::rseq::rseq;
use crate::witness::{self, rseq_of};

const SECCOMP_AND_RSEQ: Needs = Needs::RSEQ.and(Needs::SECCOMP);

pub const TESTS: &[Test] = &[
    Test::new("foreign/before-the-first-create", before_the_first).needs(SECCOMP_AND_RSEQ),
    Test::new("foreign/on-one-later-thread", late::on_one_thread).needs(Needs::RSEQ),
    Test::new("foreign/leaves-again", late::leaves_again).needs(SECCOMP_AND_RSEQ),
    Test::new("foreign/comes-second", late::comes_second).needs(Needs::RSEQ),
    Test::new("foreign/our-area-registered-behind-us", late::behind_us).needs(Needs::RSEQ),
    Test::new("foreign/libc-in-sight", libc::in_sight).needs(SECCOMP_AND_RSEQ),
    Test::new("foreign/libc-thread-without-rseq", libc::thread_without).needs(SECCOMP_AND_RSEQ),
    Test::new("foreign/libc-that-failed", libc::libc_failed).needs(Needs::RSEQ),
];

const STACK: usize = 16 * 1024;

/// An area of other code, in static memory.
struct Foreign(Area);

impl Foreign {
    const fn new() -> Self {
        Self(Area::new())
    }

    fn as_rseq(&self) -> &Rseq {
        rseq_of(&self.0)
    }

    fn call(&self, length: u32, flags: u32, signature: u32) -> Result<(), Errno> {
        // SAFETY: rseq (1) static memory, this process's for ever; (2) that is the subject of the tests.
        unsafe { rseq(at(&self.0), length, flags, signature) }
    }

    /// For the calling thread.
    fn register(&self, length: u32, signature: u32) -> Result<(), Errno> {
        self.call(length, 0, signature)
    }

    fn unregister(&self, length: u32, signature: u32) -> Result<(), Errno> {
        self.call(length, FLAG_UNREGISTER, signature)
    }

    /// The kernel still has the same registration, and keeps its ids right on every CPU.
    #[track_caller]
    fn is_alive(&self, length: u32, signature: u32) {
        assert_eq!(self.register(length, signature), Err(Errno::BUSY));
        self.follows();
    }

    #[track_caller]
    fn follows(&self) {
        witness::on_each_cpu(|cpu| {
            assert_eq!(self.as_rseq().cpu_id_start.load(Relaxed), cpu);
            assert_eq!(self.as_rseq().cpu_id.load(Relaxed) as u32, cpu);
        });
    }

    /// The part that belongs to the owner only: everything but the kernel's ids.
    fn rest(&self) -> [u64; 6] {
        let area = self.as_rseq();
        let [a, b, c, d] = &area.future;
        let flags = area.flags.load(Relaxed).into();
        let [a, b, c, d, cs] = [a, b, c, d, &area.rseq_cs].map(|word| word.load(Relaxed));
        [a, b, c, d, flags, cs]
    }
}

fn before_the_first(ctx: &Ctx) {
    // Its length and signature may be ours or not, and so may the runtime's claim; none of them helps.
    let lengths = [32, 33].into_iter();
    for length in lengths.filter(|&length| length == 32 || ctx.facts.feature_size >= 33) {
        for signature in [SIGNATURE, !SIGNATURE] {
            for claim in [Claim::Runtime, Claim::Detect] {
                let config = hooked::config(ctx.env).claim(claim);
                for config in [config, config.legacy_length(), config.slice_extension()] {
                    must_pass(|| taken(config, length, signature));
                }
            }
        }
    }
}

/// The main thread is foreign for ever; the process is not: the next thread is free, and decides.
fn taken(config: Config, length: u32, signature: u32) {
    const TAKEN: State = State::Unavailable(Reason::Taken);
    static FOREIGN: Foreign = Foreign::new();
    static SCOPE: Area = Area::new();
    static RAN: AtomicU32 = AtomicU32::new(0);
    fn body(thread: &Thread<'_>, _: &Hooked) {
        assert!(is_ours(thread.state()));
        right_everywhere(thread.area());
        RAN.fetch_add(1, Relaxed);
    }
    FOREIGN.register(length, signature).unwrap();
    // The owner's mark in bytes that the kernel does not use.
    let rest = FOREIGN.rest();
    let main = main_thread_with(config);
    FOREIGN.is_alive(length, signature);
    assert_eq!(main.state(), TAKEN);
    assert_eq!(main.area().errno(), Some(rseq_rt::Errno::INVAL));
    assert_eq!(main.area().cpu_id(), CPU_ID_REGISTRATION_FAILED);
    assert_eq!(RSEQ.owner(), None, "one thread has decided for all");
    assert_eq!(RSEQ.reason(), None);
    assert_eq!((RSEQ.length(), RSEQ.feature_size()), (0, 0));
    right_everywhere(main.area());
    let scoped = RSEQ.scope(&SCOPE).unwrap();
    assert_eq!(scoped.end(), Err(Error::Taken));
    assert_eq!(RSEQ.owner(), None, "a scope has decided for all");
    for _ in 0..3 {
        joined(STACK, body, 0);
        detached(STACK, body, 0);
    }
    assert_eq!(RAN.load(Relaxed), 6);
    assert_eq!(RSEQ.owner(), Some(Owner::Runtime));
    assert_eq!(RSEQ.length(), config.length());
    FOREIGN.is_alive(length, signature);
    // From here on no hook of this thread may call rseq(2), or the process dies.
    seccomp::install(__NR_rseq, When::Always, Answer::Kill).unwrap();
    let again = RSEQ.ensure(main.area());
    assert_eq!(again, Ok(TAKEN));
    right_everywhere(main.area());
    assert_eq!(hooked::release(main).unwrap_err(), Some(Error::Taken));
    FOREIGN.follows();
    assert_eq!(FOREIGN.rest(), rest);
    assert_eq!(RSEQ.init(config), Err(Error::AlreadyInitialized));
}
