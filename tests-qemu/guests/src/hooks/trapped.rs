//! A sandbox that traps (`SECCOMP_RET_TRAP`): its SIGSYS handler answers for the kernel. The hooks block all other
//! signals around the calls that they make, and where SIGSYS is blocked the kernel kills instead.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use linux_raw_sys::errno::ENOSYS;
use linux_raw_sys::general::{
    __NR_getcpu, __NR_rseq, __NR_rt_sigprocmask, __NR_set_tid_address, SIGSYS, siginfo_t,
};
use rseq_rt::{Area, Error, ExitMode, Owner, Reason, SignalMask, State, Thread};

use super::filtered::{STACK, detached, joined, right_everywhere};
use crate::harness::{Ctx, Failed, Needs, PASSED, Test, Verdict, expect_killed_by, failed};
use crate::hooked::{self, Hooked, RSEQ};
use crate::seccomp::{self, Answer, When};
use crate::sys::{futex, process, sched};
use crate::{arch, check, passed, signals, text, thread};

const RSEQ_AND_SECCOMP: Needs = Needs::RSEQ.and(Needs::SECCOMP);

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("trapped/create", create).needs(Needs::SECCOMP),
    Test::new("trapped/create-under-a-mask", create_masked).needs(Needs::SECCOMP),
    Test::new("trapped/ensure", ensure).needs(Needs::SECCOMP),
    Test::new("trapped/release", release).needs(RSEQ_AND_SECCOMP),
    Test::new("trapped/every-other-call", every_other_call).needs(RSEQ_AND_SECCOMP),
    Test::new("trapped/with-sigsys-blocked-is-fatal", blocked).needs(Needs::SECCOMP),
];

const NOSYS: rseq_rt::Errno = rseq_rt::Errno::NOSYS;
const OURS: State = State::Registered(Owner::Runtime);
const WITHOUT: State = State::Unavailable(Reason::NoSyscall);
static TRAPPED: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" fn answer(_: i32, _: *mut siginfo_t, context: *mut u8) {
    TRAPPED.fetch_add(1, Relaxed);
    // SAFETY: answer_call (1) this handler's own.
    unsafe { arch::answer_call(context, -(ENOSYS as isize)) };
}

/// From here on the call is trapped in all threads, and answered with ENOSYS.
fn trap(nr: u32) -> Result<(), Failed> {
    // SAFETY: handle (1) an atomic, and its own context.
    unsafe { signals::handle(SIGSYS as i32, answer, 0)? };
    Ok(seccomp::install_everywhere(nr, When::Always, Answer::Trap)?)
}

fn traps(expected: u32) -> Result<(), Failed> {
    let trapped = TRAPPED.swap(0, Relaxed);
    check!(trapped == expected, "trapped ", trapped, " times");
    Ok(())
}

fn create(ctx: &Ctx<'_>) -> Verdict {
    trap(__NR_rseq)?;
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    // SAFETY: (1) once in this process, on its main thread.
    let Ok(main) = (unsafe { hooked::adopt_main() }) else {
        check!(false, "the create hook");
        return PASSED;
    };
    traps(1)?;
    check!(main.state() == WITHOUT, "the state");
    check!(main.area().errno() == Some(NOSYS), "the errno");
    right_everywhere(main.area());
    check!(hooked::release(main).is_ok(), "release");
    traps(0)?;
    PASSED
}

/// As a runtime's clone leaves the child: all signals blocked by the parent.
fn create_masked(ctx: &Ctx<'_>) -> Verdict {
    fn body(thread: &Thread<'_>, _: &Hooked) {
        if thread.state() != WITHOUT {
            let _ = failed(text!("the state of a thread"));
        }
        right_everywhere(thread.area());
    }
    trap(__NR_rseq)?;
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    for _ in 0..3 {
        joined(body)?;
        detached(body)?;
    }
    // The first of them has asked, and the answer is everybody's.
    traps(1)?;
    PASSED
}

fn ensure(ctx: &Ctx<'_>) -> Verdict {
    static AREA: Area = Area::new();
    trap(__NR_rseq)?;
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    for asked in [1, 0] {
        // SAFETY: ensure_registered (1, 2) the only thread's, static.
        let state = unsafe { RSEQ.ensure_registered(&AREA) };
        check!(state == Ok(WITHOUT), "the state");
        traps(asked)?;
    }
    right_everywhere(&AREA);
    PASSED
}

static GATE: AtomicU32 = AtomicU32::new(0);
static WAITING: AtomicU32 = AtomicU32::new(0);

/// Registered before the filter comes; ends after it.
fn early(thread: &Thread<'_>, _: &Hooked) {
    if thread.state() != OURS {
        let _ = failed(text!("not registered before the filter"));
    }
    WAITING.fetch_add(1, Release);
    while GATE.load(Acquire) == 0 {
        let _ = futex::wait(&GATE, 0, None);
    }
}

fn release(ctx: &Ctx<'_>) -> Verdict {
    static SCOPE: Area = Area::new();
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    // SAFETY: (1) once in this process, on its main thread.
    let Ok(main) = (unsafe { hooked::adopt_main() }) else {
        check!(false, "the create hook");
        return PASSED;
    };
    check!(main.state() == OURS, "the main thread is not registered");
    let keeps = hooked::start_joinable(STACK, early, 0)?;
    hooked::start_detached(STACK, early, 0)?;
    while WAITING.load(Acquire) < 2 {
        sched::relax();
    }
    trap(__NR_rseq)?;
    GATE.store(1, Release);
    futex::wake(&GATE, 2)?;
    check!(keeps.join().is_ok(), "join");
    // The detached one asks once, and its memory stays until a sweep.
    while TRAPPED.load(Relaxed) == 0 {
        sched::relax();
    }
    traps(1)?;
    // SAFETY: scoped (1, 2, 3) SCOPE is nobody else's.
    let scoped = unsafe { RSEQ.scoped(&SCOPE) }.map(rseq_rt::Scoped::end);
    check!(scoped == Ok(Ok(())), "a scope of a thread without rseq");
    traps(1)?;
    let area = main.area();
    let refused = hooked::release(main).err().flatten();
    check!(refused == Some(Error::StillRegistered(NOSYS)), "release");
    traps(1)?;
    check!(
        area.state() == State::Exiting && area.cpu_id() >= 0,
        "the kept area"
    );
    while hooked::DEFERRED.sweep() == 0 {
        sched::relax();
    }
    PASSED
}

/// All other calls that a thread makes from its create to its end, trapped one after the other.
fn every_other_call(ctx: &Ctx<'_>) -> Verdict {
    static LIVED: AtomicU32 = AtomicU32::new(0);
    fn life(area: &Area) {
        // SAFETY: on_thread_create (1, 3) its own area, here; (2) in the block of a joinable thread.
        let thread = unsafe { RSEQ.on_thread_create(area) };
        let right = thread.is_ok_and(|thread| {
            let right = thread.state() == OURS && RSEQ.current_cpu(area).is_ok();
            let kept = thread.on_exit(ExitMode::Keep).into_kept();
            right && kept.why().is_none()
        });
        LIVED.fetch_add(u32::from(right), Relaxed);
    }
    fn nothing(_: &Thread<'_>, _: &Hooked) {}
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    // The detached one's clear-tid word lies inside: where that cannot be forgotten, its memory leaks.
    trap(__NR_set_tid_address)?;
    hooked::start_detached(STACK, nothing, 0)?;
    while TRAPPED.load(Relaxed) == 0 {
        sched::relax();
    }
    traps(1)?;
    trap(__NR_getcpu)?;
    thread::start(STACK, Area::new(), life)?.join()?;
    traps(0)?;
    trap(__NR_rt_sigprocmask)?;
    thread::start(STACK, Area::new(), life)?.join()?;
    // That of the create hook, and that of the exit hook.
    traps(2)?;
    let lived = LIVED.load(Relaxed);
    check!(lived == 2, lived, " of 2 lived right");
    passed!("set_tid_address, getcpu, rt_sigprocmask")
}

/// The broken variant: all 64 signals blocked around rseq(2).
fn blocked(ctx: &Ctx<'_>) -> Verdict {
    static AREA: Area = Area::new();
    trap(__NR_rseq)?;
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    expect_killed_by(SIGSYS as i32, || {
        let all = crate::sys::signal::mask(crate::sys::signal::Mask::Exactly(u64::MAX));
        // SAFETY: assume_blocked (1) SIGSYS too, and it is trapped: this is the variant that must die.
        let mask = unsafe { SignalMask::assume_blocked(all.unwrap_or(0)) };
        // SAFETY: on_thread_create_masked (1, 2, 3) the only thread's, static.
        let created = unsafe { RSEQ.on_thread_create_masked(&AREA, &mask) };
        process::exit_group(if created.is_ok() { 2 } else { 3 });
    })?;
    PASSED
}
