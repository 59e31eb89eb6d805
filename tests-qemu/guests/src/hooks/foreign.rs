//! Somebody else's area: never changed, never unregistered, and nobody of ours suffers from it.

use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU32, AtomicU64};

use linux_raw_sys::general::__NR_rseq;
use rseq_rt::abi::{CPU_ID_REGISTRATION_FAILED, FLAG_UNREGISTER, Rseq};
use rseq_rt::arch::SIGNATURE;
use rseq_rt::{Area, Claim, Config, Error, Owner, Reason, State, Thread};

use super::filtered::{detached, joined, right_everywhere};
use super::{foreign_late as late, foreign_trio as trio};
use crate::errno::Errno;
use crate::harness::{Ctx, Failed, Needs, PASSED, Test, Verdict, failed, forked};
use crate::hooked::{self, Hooked, RSEQ};
use crate::seccomp::{self, Answer, When};
use crate::sys::process::{Status, gettid};
use crate::sys::rseq::rseq;
use crate::sys::sched::{self, CpuSet};
use crate::witness::rseq_of;
use crate::{check, text};

const SECCOMP_AND_RSEQ: Needs = Needs::RSEQ.and(Needs::SECCOMP);

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("foreign/before-the-first-create", before_the_first).needs(SECCOMP_AND_RSEQ),
    Test::new("foreign/on-one-later-thread", late::on_one_thread).needs(Needs::RSEQ),
    Test::new("foreign/leaves-again", late::leaves_again).needs(SECCOMP_AND_RSEQ),
    Test::new("foreign/comes-second", late::comes_second).needs(Needs::RSEQ),
    Test::new("foreign/our-area-registered-behind-us", late::behind_us).needs(Needs::RSEQ),
    Test::new("foreign/libc-in-sight", trio::in_sight).needs(SECCOMP_AND_RSEQ),
    Test::new("foreign/libc-thread-without-rseq", trio::thread_without).needs(SECCOMP_AND_RSEQ),
    Test::new("foreign/libc-that-failed", trio::libc_failed).needs(Needs::RSEQ),
];

/// An area of other code, in the program's own memory.
pub(super) struct Foreign(Area);

impl Foreign {
    pub(super) const fn new() -> Self {
        Self(Area::new())
    }

    fn at(&self) -> *mut u8 {
        self.0.as_rseq().cast_mut().cast()
    }

    pub(super) fn as_rseq(&self) -> &Rseq {
        rseq_of(&self.0)
    }

    fn call(&self, length: u32, flags: u32, signature: u32) -> Result<(), Errno> {
        // SAFETY: rseq (1) static memory, of this process for ever; (2) that is what the tests are about.
        unsafe { rseq(self.at(), length, flags, signature) }
    }

    /// For the calling thread.
    pub(super) fn register(&self, length: u32, signature: u32) -> Result<(), Errno> {
        self.call(length, 0, signature)
    }

    pub(super) fn unregister(&self, length: u32, signature: u32) -> Result<(), Errno> {
        self.call(length, FLAG_UNREGISTER, signature)
    }

    /// The kernel still knows it as it was registered, and keeps its ids right on every CPU.
    #[track_caller]
    pub(super) fn is_alive(&self, length: u32, signature: u32) {
        self.says(length, signature, Errno::BUSY);
        self.follows();
    }

    #[track_caller]
    fn says(&self, length: u32, signature: u32, errno: Errno) {
        let answer = self.register(length, signature);
        if answer != Err(errno) {
            let _ = failed(text!("the foreign registration is another one: ", answer));
        }
    }

    #[track_caller]
    pub(super) fn follows(&self) {
        let (before, tid) = (sched::allowed().unwrap_or(CpuSet::empty()), gettid());
        for cpu in before.iter() {
            let moved = sched::allow(tid, &CpuSet::one(cpu)).is_ok();
            let ids = (
                self.as_rseq().cpu_id_start.load(Relaxed),
                self.as_rseq().cpu_id.load(Relaxed) as u32,
            );
            if moved && ids != (cpu, cpu) {
                let _ = failed(text!("the foreign area says ", ids.1, " on CPU ", cpu));
            }
        }
        let _ = sched::allow(tid, &before);
    }

    /// What belongs to nobody but its owner: all but the kernel's ids.
    pub(super) fn rest(&self) -> [u64; 6] {
        let [a, b, c, d] = &self.as_rseq().future;
        let load = |word: &AtomicU64| word.load(Relaxed);
        let flags = self.as_rseq().flags.load(Relaxed).into();
        [
            load(a),
            load(b),
            load(c),
            load(d),
            flags,
            load(&self.as_rseq().rseq_cs),
        ]
    }
}

fn before_the_first(ctx: &Ctx<'_>) -> Verdict {
    // Its length and signature may be ours or not, and so may the runtime's word; none of it helps.
    let lengths = [32, 33].into_iter();
    for length in lengths.filter(|&length| length == 32 || ctx.facts.feature_size >= 33) {
        for signature in [SIGNATURE, !SIGNATURE] {
            for claim in [Claim::Runtime, Claim::Detect] {
                let config = hooked::config(ctx.env).claim(claim);
                for config in [config, config.legacy_length(), config.slice_extension()] {
                    let status = forked(|| _ = taken(config, length, signature))?;
                    check!(status == Status::Exited(0), "length ", length, ": ", status);
                }
            }
        }
    }
    PASSED
}

/// The main thread is somebody else's, for ever; the process is not: the next thread is free, and decides.
fn taken(config: Config, length: u32, signature: u32) -> Result<(), Failed> {
    static FOREIGN: Foreign = Foreign::new();
    static SCOPE: Area = Area::new();
    static RAN: AtomicU32 = AtomicU32::new(0);
    fn body(thread: &Thread<'_>, _: &Hooked) {
        if thread.state() != State::Registered(Owner::Runtime) {
            let _ = failed(text!("a free thread is not registered"));
        }
        right_everywhere(thread.area());
        RAN.fetch_add(1, Relaxed);
    }
    const TAKEN: State = State::Unavailable(Reason::Taken);
    FOREIGN.register(length, signature)?;
    // The mark of an owner in bytes that the kernel does not use, and in no field that it does.
    let rest = FOREIGN.rest();
    check!(RSEQ.init(config) == Ok(None), "init");
    // SAFETY: (1) once in this process, on its main thread.
    let main = unsafe { hooked::adopt_main() };
    let Ok(main) = main else {
        check!(false, "the create hook");
        return Ok(());
    };
    FOREIGN.is_alive(length, signature);
    check!(main.state() == TAKEN, "the state");
    check!(
        main.area().errno() == Some(rseq_rt::Errno::INVAL),
        "the errno"
    );
    check!(main.area().cpu_id() == CPU_ID_REGISTRATION_FAILED, "cpu_id");
    check!(RSEQ.owner().is_none(), "one thread has decided for all");
    check!(RSEQ.reason().is_none(), "the process has a reason");
    check!(RSEQ.length() == 0 && RSEQ.feature_size() == 0, "a length");
    right_everywhere(main.area());
    // SAFETY: scoped (1, 2, 3) SCOPE is this thread's, for ever.
    let ended = unsafe { RSEQ.scoped(&SCOPE) }.map(rseq_rt::Scoped::end);
    check!(ended == Ok(Err(Error::Taken)), "a scope");
    check!(RSEQ.owner().is_none(), "a scope has decided for all");
    for _ in 0..3 {
        joined(body)?;
        detached(body)?;
    }
    check!(RAN.load(Relaxed) == 6, "not all ran");
    check!(RSEQ.owner() == Some(Owner::Runtime), "the owner");
    check!(RSEQ.length() == config.length(), "the length");
    FOREIGN.is_alive(length, signature);
    // From here on no hook of this thread calls rseq(2), or the process dies.
    seccomp::install(__NR_rseq, When::Always, Answer::Kill)?;
    // SAFETY: ensure_registered (1, 2) the area of this thread, for ever.
    let again = unsafe { RSEQ.ensure_registered(main.area()) };
    check!(again == Ok(TAKEN), "ensure_registered");
    right_everywhere(main.area());
    let refused = hooked::release(main).err();
    check!(refused == Some(Some(Error::Taken)), "release");
    FOREIGN.follows();
    check!(FOREIGN.rest() == rest, "the foreign area changed");
    let again = RSEQ.init(config);
    check!(again == Err(Error::AlreadyInitialized), "init twice");
    Ok(())
}
