//! Filters for the other calls of the hooks, and a tool that takes only one length.

use core::sync::atomic::{AtomicU32, Ordering::Acquire, Ordering::Release};

use linux_raw_sys::general::{__NR_futex, __NR_getcpu, __NR_rseq, __NR_rt_sigprocmask};
use rseq_rt::{
    Area, Claim, Config, Error, ExitMode, Linux, Owner, Process, SignalMask, State, Thread,
};

use super::STACK;
use crate::errno::Errno;
use crate::harness::{Ctx, passed};
use crate::hooked::{self, Hooked, RSEQ};
use crate::hooks::common::{
    Hooks as _, detached, init, init_with, joined, main_thread_with, on_thread, right_everywhere,
};
use crate::seccomp::{self, Answer, When};
use crate::sys::sched;
use crate::witness;

const OURS: State = State::Registered(Owner::Runtime);
const EPERM: rseq_rt::Errno = rseq_rt::Errno::PERM;

fn refuse(nr: u32) {
    seccomp::install(nr, When::Always, Answer::Errno(Errno::PERM)).unwrap();
}

/// rr and gVisor: auxv promises more, but only the original length is accepted.
pub fn only_length_32(ctx: &Ctx) {
    fn body(thread: &Thread<'_>, _: &Hooked) {
        assert_eq!(thread.state(), OURS);
        assert_eq!(RSEQ.length(), 32);
        right_everywhere(thread.area());
    }
    let others = When::ArgIsNot(1, 32);
    seccomp::install(__NR_rseq, others, Answer::Errno(Errno::INVAL)).unwrap();
    let config = Config::new(Some(33), Some(64)).claim(Claim::Runtime);
    assert_eq!(config.length(), 33);
    assert_eq!(main_thread_with(config).state(), OURS);
    assert_eq!((RSEQ.length(), RSEQ.feature_size()), (32, 32));
    // The first thread has found the length; stating another one from here on is fatal.
    seccomp::install(__NR_rseq, others, Answer::Kill).unwrap();
    for _ in 0..ctx.scale(50, 5, 5) {
        joined(STACK, body, 0);
        detached(STACK, body, 0);
    }
    if ctx.facts.feature_size >= 33 {
        passed!("where the kernel itself takes 33");
    }
}

/// The main thread, created on a bare area: a runtime that blocks signals around clone cannot start threads here.
static MAIN: Area = Area::new();
static OTHER: Area = Area::new();

/// Without rt_sigprocmask(2) a release is refused, and the area stays the kernel's.
#[track_caller]
fn release_of_main_is_refused(main: Thread<'_>) {
    let refused = hooked::release(main).unwrap_err();
    assert_eq!(refused, Some(Error::NotMasked(EPERM)));
    assert_eq!(MAIN.state(), State::Exiting);
    assert!(MAIN.cpu_id() >= 0);
}

/// The claim, not the mask, keeps a handler from registering too: this hook needs no mask, but a release does.
pub fn no_mask_from_start(ctx: &Ctx) {
    refuse(__NR_rt_sigprocmask);
    init(ctx);
    let main = RSEQ.create(&MAIN).unwrap();
    assert_eq!((main.state(), MAIN.errno()), (OURS, None));
    assert_eq!(RSEQ.owner(), Some(Owner::Runtime));
    right_everywhere(&MAIN);
    on_thread(STACK, || {
        let thread = RSEQ.create(&OTHER).unwrap();
        assert_eq!(OTHER.state(), OURS);
        right_everywhere(&OTHER);
        let kept = thread.on_exit(ExitMode::Keep).into_kept();
        assert_eq!(kept.why(), None, "keep needs no mask");
        assert_eq!(OTHER.state(), State::Exiting);
    });
    release_of_main_is_refused(main);
}

pub fn no_mask_in_middle(ctx: &Ctx) {
    static SCOPE: Area = Area::new();
    static MASKED: Area = Area::new();
    init(ctx);
    let main = RSEQ.create(&MAIN).unwrap();
    assert_eq!(main.state(), OURS);
    on_thread(STACK, || {
        let scoped = RSEQ.scope(&SCOPE).unwrap();
        refuse(__NR_rt_sigprocmask);
        assert_eq!(scoped.end(), Err(Error::NotMasked(EPERM)));
        assert_eq!(SCOPE.state(), OURS);
        right_everywhere(&SCOPE);
    });
    on_thread(STACK, || {
        let mask = SignalMask::block_all().unwrap();
        refuse(__NR_rt_sigprocmask);
        let thread = RSEQ.create_masked(&MASKED, &mask).unwrap();
        assert_eq!(MASKED.state(), OURS);
        right_everywhere(&MASKED);
        let _ = hooked::release_masked(thread, &mask).unwrap();
    });
    refuse(__NR_rt_sigprocmask);
    right_everywhere(&MAIN);
    release_of_main_is_refused(main);
}

pub fn no_getcpu(ctx: &Ctx) {
    static REGISTERS: Process = Process::new();
    refuse(__NR_getcpu);
    RSEQ.init(hooked::config(ctx.env).disabled()).unwrap();
    let _main = RSEQ.create(&MAIN).unwrap();
    let unavailable = Err(Error::Unavailable(EPERM));
    assert_eq!(RSEQ.current_cpu(&MAIN), unavailable);
    assert_eq!(RSEQ.current_node(&MAIN), unavailable);
    assert_eq!(RSEQ.current_mm_cid(&MAIN), None);
    if ctx.facts.rseq.is_ok() {
        // A registered thread does not need it.
        assert_eq!(REGISTERS.init(hooked::config(ctx.env)), Ok(None));
        let _thread = REGISTERS.create(&OTHER);
        witness::on_each_cpu(|cpu| assert_eq!(REGISTERS.current_cpu(&OTHER), Ok(cpu)));
    }
}

pub fn no_futex(ctx: &Ctx) {
    static GO: AtomicU32 = AtomicU32::new(0);
    fn body(_: &Thread<'_>, _: &Hooked) {
        sched::wait_until(|| GO.load(Acquire) != 0);
    }
    init_with(hooked::config(ctx.env));
    let alive = hooked::start_joinable(STACK, body, 0).unwrap();
    refuse(__NR_futex);
    let word = &alive.hooked().clear_tid;
    for _ in 0..2 {
        let error = word.wait().unwrap_err();
        assert_eq!(error, Error::Futex(EPERM));
        assert_eq!(error.raw_os_error(), EPERM.raw());
    }
    assert!(word.try_reclaim().is_none());
    GO.store(1, Release);
    sched::wait_until(|| word.try_reclaim().is_some());
    // A cleared word needs no call.
    alive.join().unwrap();
    // Nor does checking memory of unknown state: without the call it is not touched.
    let at = (&raw const OTHER).cast_mut().cast();
    // SAFETY: from_raw (1) a static area.
    let area = unsafe { Area::from_raw(&Linux, at, Area::SIZE) };
    assert_eq!(area.unwrap_err(), Error::UnwritableArea(EPERM));
}
