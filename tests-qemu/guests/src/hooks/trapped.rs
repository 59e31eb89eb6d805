//! A sandbox that traps (`SECCOMP_RET_TRAP`): its SIGSYS handler answers in place of the kernel. The hooks block all
//! other signals around their calls; with SIGSYS blocked the kernel would kill instead.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::errno::ENOSYS;
use linux_raw_sys::general::{
    __NR_getcpu, __NR_rseq, __NR_rt_sigprocmask, __NR_set_tid_address, SIGSYS, siginfo_t,
};
use rseq_rt::{Area, Errno, Error, ExitMode, Owner, Reason, SignalMask, State, Thread};

use super::common::{Gate, Hooks as _, detached, init, joined, main_thread, right_everywhere};
use super::filtered::STACK;

use crate::harness::{Ctx, Needs, Test, must_die, passed};
use crate::hooked::{self, Hooked, RSEQ};
use crate::seccomp::{self, Answer, When};
use crate::sys::signal::{self, Mask};
use crate::sys::{process, sched};
use crate::{arch, signals, thread};

const RSEQ_AND_SECCOMP: Needs = Needs::RSEQ.and(Needs::SECCOMP);

pub const TESTS: &[Test] = &[
    Test::new("trapped/create", create).needs(Needs::SECCOMP),
    Test::new("trapped/create-under-a-mask", create_masked).needs(Needs::SECCOMP),
    Test::new("trapped/ensure", ensure).needs(Needs::SECCOMP),
    Test::new("trapped/release", release).needs(RSEQ_AND_SECCOMP),
    Test::new("trapped/every-other-call", every_other_call).needs(RSEQ_AND_SECCOMP),
    Test::new("trapped/with-sigsys-blocked-is-fatal", blocked).needs(Needs::SECCOMP),
];

const OURS: State = State::Registered(Owner::Runtime);
const WITHOUT: State = State::Unavailable(Reason::NoSyscall);
static TRAPPED: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" fn answer(_: i32, _: *mut siginfo_t, context: *mut u8) {
    TRAPPED.fetch_add(1, Relaxed);
    // SAFETY: answer_call (1) this handler's own.
    unsafe { arch::answer_call(context, -(ENOSYS as isize)) };
}

/// From here on the call is trapped in all threads, and answered with ENOSYS.
fn trap(nr: u32) {
    // SAFETY: handle (1) an atomic, and its own context.
    unsafe { signals::handle(SIGSYS as i32, answer, 0) }.unwrap();
    seccomp::install_everywhere(nr, When::Always, Answer::Trap).unwrap();
}

/// The number of trapped calls since the last check.
#[track_caller]
fn assert_trapped(expected: u32) {
    assert_eq!(TRAPPED.swap(0, Relaxed), expected, "trapped");
}

fn wait_for_trap() {
    sched::wait_until(|| TRAPPED.load(Relaxed) != 0);
    assert_trapped(1);
}

fn create(ctx: &Ctx<'_>) {
    trap(__NR_rseq);
    let main = main_thread(ctx);
    assert_trapped(1);
    assert_eq!(main.state(), WITHOUT);
    assert_eq!(main.area().errno(), Some(Errno::NOSYS));
    right_everywhere(main.area());
    let _gone = hooked::release(main).unwrap();
    assert_trapped(0);
}

/// As a runtime's clone leaves the child: all signals blocked by the parent.
fn create_masked(ctx: &Ctx<'_>) {
    fn body(thread: &Thread<'_>, _: &Hooked) {
        assert_eq!(thread.state(), WITHOUT);
        right_everywhere(thread.area());
    }
    trap(__NR_rseq);
    init(ctx);
    for _ in 0..3 {
        joined(STACK, body, 0);
        detached(STACK, body, 0);
    }
    // The first of them has asked, and the answer holds for all.
    assert_trapped(1);
}

fn ensure(ctx: &Ctx<'_>) {
    static AREA: Area = Area::new();
    trap(__NR_rseq);
    init(ctx);
    for asked in [1, 0] {
        assert_eq!(RSEQ.ensure(&AREA), Ok(WITHOUT));
        assert_trapped(asked);
    }
    right_everywhere(&AREA);
}

static GATE: Gate = Gate::new();

/// Registered before the filter comes; ends after it.
fn early(thread: &Thread<'_>, _: &Hooked) {
    assert_eq!(thread.state(), OURS);
    GATE.pass();
}

fn release(ctx: &Ctx<'_>) {
    static SCOPE: Area = Area::new();
    let main = main_thread(ctx);
    assert_eq!(main.state(), OURS);
    let keeps = hooked::start_joinable(STACK, early, 0).unwrap();
    hooked::start_detached(STACK, early, 0).unwrap();
    GATE.wait_for(2);
    trap(__NR_rseq);
    GATE.open();
    keeps.join().unwrap();
    // The detached one asks once, and its memory stays until a sweep.
    wait_for_trap();
    let scoped = RSEQ.scope(&SCOPE).map(rseq_rt::Scoped::end);
    assert_eq!(scoped, Ok(Ok(())), "a scope of a thread without rseq");
    assert_trapped(1);
    let area = main.area();
    let refused = hooked::release(main).err().flatten();
    assert_eq!(refused, Some(Error::StillRegistered(Errno::NOSYS)));
    assert_trapped(1);
    assert_eq!(area.state(), State::Exiting);
    assert!(area.cpu_id() >= 0, "the kept area");
    sched::wait_until(|| hooked::DEFERRED.sweep() != 0);
}

/// All other calls of a thread between its create and its end, trapped one after the other.
fn every_other_call(ctx: &Ctx<'_>) {
    fn life(area: &Area) {
        let thread = RSEQ.create(area).unwrap();
        assert_eq!(thread.state(), OURS);
        RSEQ.current_cpu(area).unwrap();
        assert_eq!(thread.on_exit(ExitMode::Keep).into_kept().why(), None);
    }
    fn nothing(_: &Thread<'_>, _: &Hooked) {}
    init(ctx);
    // The detached one's clear-tid word lies inside: if the kernel cannot forget it, the memory leaks.
    trap(__NR_set_tid_address);
    hooked::start_detached(STACK, nothing, 0).unwrap();
    wait_for_trap();
    // The masks of the create hook and of the exit hook.
    for (nr, trapped) in [(__NR_getcpu, 0), (__NR_rt_sigprocmask, 2)] {
        trap(nr);
        thread::run(STACK, Area::new(), life);
        assert_trapped(trapped);
    }
    passed!("set_tid_address, getcpu, rt_sigprocmask");
}

/// The broken variant: all 64 signals blocked around rseq(2).
fn blocked(ctx: &Ctx<'_>) {
    static AREA: Area = Area::new();
    trap(__NR_rseq);
    init(ctx);
    must_die(SIGSYS as i32, || {
        let before = signal::mask(Mask::Exactly(u64::MAX)).unwrap();
        // SAFETY: assume_blocked (1) SIGSYS too, and it is trapped: this is the variant that must die.
        let mask = unsafe { SignalMask::assume_blocked(before) };
        let created = RSEQ.create_masked(&AREA, &mask);
        process::exit_group(if created.is_ok() { 2 } else { 3 });
    });
}
