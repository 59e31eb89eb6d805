//! Filters of the other calls that the hooks make, and a tool that takes one length only.

use linux_raw_sys::general::{__NR_futex, __NR_getcpu, __NR_rseq, __NR_rt_sigprocmask};
use rseq_rt::{
    Area, Claim, ClearTid, Config, Error, ExitMode, Owner, Scoped, SignalMask, State, Thread,
};

use super::filtered::{detached, joined, right_everywhere};
use crate::errno::Errno;
use crate::harness::{Ctx, Failed, PASSED, Verdict, failed};
use crate::hooked::{self, Hooked, RSEQ};
use crate::seccomp::{self, Answer, When};
use crate::sys::{process, sched};
use crate::{check, text, thread};

const OURS: State = State::Registered(Owner::Runtime);
const EPERM: rseq_rt::Errno = rseq_rt::Errno::PERM;

fn refuse(nr: u32) -> Result<(), Errno> {
    seccomp::install(nr, When::Always, Answer::Errno(Errno::PERM))
}

/// rr and gVisor: auxv promises more, and only the original length is taken.
pub(super) fn only_length_32(ctx: &Ctx<'_>) -> Verdict {
    fn body(thread: &Thread<'_>, _: &Hooked) {
        if thread.state() != OURS || RSEQ.length() != 32 {
            let _ = failed(text!("not registered with 32: ", RSEQ.length()));
        }
        right_everywhere(thread.area());
    }
    seccomp::install(
        __NR_rseq,
        When::ArgIsNot(1, 32),
        Answer::Errno(Errno::INVAL),
    )?;
    let config = Config::new(Some(33), Some(64)).claim(Claim::Runtime);
    check!(config.length() == 33, "the wish is ", config.length());
    check!(RSEQ.init(config) == Ok(None), "init");
    // SAFETY: (1) once in this process, on its main thread.
    let main = unsafe { hooked::adopt_main() };
    check!(
        main.is_ok_and(|main| main.state() == OURS),
        "the main thread"
    );
    check!(RSEQ.length() == 32, "the length is ", RSEQ.length());
    check!(
        RSEQ.feature_size() == 32,
        "the fields are ",
        RSEQ.feature_size()
    );
    // The first one found the length; whoever states another one from here on dies of it.
    seccomp::install(__NR_rseq, When::ArgIsNot(1, 32), Answer::Kill)?;
    for _ in 0..ctx.scale(50, 5, 5) {
        joined(body)?;
        detached(body)?;
    }
    if ctx.facts.feature_size >= 33 {
        crate::passed!("where the kernel itself takes 33")
    } else {
        PASSED
    }
}

/// The main thread, created on a bare area: a runtime that blocks signals around clone cannot start threads here.
static MAIN: Area = Area::new();
static OTHER: Area = Area::new();

#[track_caller]
fn create(area: &'static Area) -> Result<Thread<'static>, Failed> {
    // SAFETY: on_thread_create (1, 2) each area is one thread's, for ever; (3) the callers keep it.
    unsafe { RSEQ.on_thread_create(area) }.map_err(|_| failed(text!("the create hook")))
}

/// What keeps a handler from registering as well is the claim: the hook needs no mask, and a release cannot do without.
pub(super) fn no_mask_from_start(ctx: &Ctx<'_>) -> Verdict {
    fn other(_: &()) {
        let Ok(thread) = create(&OTHER) else { return };
        if OTHER.state() != OURS {
            let _ = failed(text!("the state of a later thread"));
        }
        right_everywhere(&OTHER);
        let kept = thread.on_exit(ExitMode::Keep).into_kept();
        if kept.why().is_some() || OTHER.state() != State::Exiting {
            let _ = failed(text!("keep needs no mask"));
        }
    }
    refuse(__NR_rt_sigprocmask)?;
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    let main = create(&MAIN)?;
    check!(main.state() == OURS, "the state");
    check!(MAIN.errno().is_none(), "the errno");
    check!(RSEQ.owner() == Some(Owner::Runtime), "the owner");
    right_everywhere(&MAIN);
    thread::start(super::filtered::STACK, (), other)?.join()?;
    let refused = hooked::release(main).err().flatten();
    check!(refused == Some(Error::NotMasked(EPERM)), "release");
    check!(
        MAIN.state() == State::Exiting && MAIN.cpu_id() >= 0,
        "the kept area"
    );
    PASSED
}

pub(super) fn no_mask_in_middle(ctx: &Ctx<'_>) -> Verdict {
    static SCOPE: Area = Area::new();
    static MASKED: Area = Area::new();
    fn scope(_: &()) {
        // SAFETY: scoped (1, 2, 3) SCOPE is this thread's for ever.
        let Ok(scoped) = (unsafe { RSEQ.scoped(&SCOPE) }) else {
            let _ = failed(text!("scoped"));
            return;
        };
        let refused = refuse(__NR_rt_sigprocmask);
        if refused.is_err() || Scoped::end(scoped) != Err(Error::NotMasked(EPERM)) {
            let _ = failed(text!("the end of a scope"));
        }
        if SCOPE.state() != OURS {
            let _ = failed(text!("the state after the scope is not true"));
        }
        right_everywhere(&SCOPE);
    }
    fn masked(_: &()) {
        let mask = SignalMask::block_all();
        let refused = refuse(__NR_rt_sigprocmask);
        let (Ok(mask), Ok(())) = (mask, refused) else {
            let _ = failed(text!("block_all"));
            return;
        };
        // SAFETY: on_thread_create_masked (1, 2) MASKED is this thread's for ever; (3) it stays here.
        let thread = unsafe { RSEQ.on_thread_create_masked(&MASKED, &mask) };
        if thread.is_err() || MASKED.state() != OURS {
            let _ = failed(text!("a masked thread needs no further mask"));
        }
        right_everywhere(&MASKED);
        let gone = thread.map(|thread| hooked::release_masked(thread, &mask));
        if !matches!(gone, Ok(Ok(_))) {
            let _ = failed(text!("release, masked"));
        }
    }
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    let main = create(&MAIN)?;
    check!(main.state() == OURS, "the main thread");
    thread::start(super::filtered::STACK, (), scope)?.join()?;
    thread::start(super::filtered::STACK, (), masked)?.join()?;
    refuse(__NR_rt_sigprocmask)?;
    right_everywhere(&MAIN);
    let refused = hooked::release(main).err().flatten();
    check!(refused == Some(Error::NotMasked(EPERM)), "release");
    check!(
        MAIN.state() == State::Exiting && MAIN.cpu_id() >= 0,
        "the kept area"
    );
    PASSED
}

pub(super) fn no_getcpu(ctx: &Ctx<'_>) -> Verdict {
    refuse(__NR_getcpu)?;
    check!(
        RSEQ.init(hooked::config(ctx.env).disabled()).is_ok(),
        "init"
    );
    let _main = create(&MAIN)?;
    let unavailable = Err(Error::Unavailable(EPERM));
    check!(RSEQ.current_cpu(&MAIN) == unavailable, "current_cpu");
    check!(RSEQ.current_node(&MAIN) == unavailable, "current_node");
    check!(RSEQ.current_mm_cid(&MAIN).is_none(), "current_mm_cid");
    if ctx.facts.rseq.is_ok() {
        // A registered thread does not need it.
        static REGISTERS: rseq_rt::Process = rseq_rt::Process::new();
        check!(REGISTERS.init(hooked::config(ctx.env)) == Ok(None), "init");
        // SAFETY: on_thread_create (1, 2) OTHER is this thread's for ever; (3) it stays here.
        let _thread = unsafe { REGISTERS.on_thread_create(&OTHER) };
        for cpu in sched::allowed()?.iter() {
            sched::allow(0, &sched::CpuSet::one(cpu))?;
            check!(REGISTERS.current_cpu(&OTHER) == Ok(cpu), "not on ", cpu);
        }
    }
    PASSED
}

pub(super) fn no_futex(ctx: &Ctx<'_>) -> Verdict {
    fn body(_: &Thread<'_>, hooked: &Hooked) {
        while hooked.argument != 0 && process::getpid() != 0 {
            if GO.load(core::sync::atomic::Ordering::Acquire) != 0 {
                return;
            }
            sched::relax();
        }
    }
    static GO: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    let alive = hooked::start_joinable(super::filtered::STACK, body, 1)?;
    refuse(__NR_futex)?;
    let word: &ClearTid = &alive.hooked().clear_tid;
    let futex = word.wait().map_err(Error::raw_os_error);
    check!(
        matches!(futex, Err(errno) if errno == EPERM.raw()),
        "the wait proves an end"
    );
    check!(
        matches!(word.wait(), Err(Error::Futex(EPERM))),
        "another error"
    );
    check!(word.try_reclaim().is_none(), "try_reclaim proves an end");
    GO.store(1, core::sync::atomic::Ordering::Release);
    while word.try_reclaim().is_none() {
        sched::relax();
    }
    check!(alive.join().is_ok(), "a cleared word needs no call");
    // Neither does a look at memory that nobody vouches for: without the call it is not touched.
    // SAFETY: from_raw (1) a static area.
    let area =
        unsafe { Area::from_raw(&rseq_rt::Linux, (&raw const OTHER).cast_mut().cast(), 128) };
    check!(
        matches!(area, Err(Error::UnwritableArea(EPERM))),
        "from_raw"
    );
    PASSED
}
