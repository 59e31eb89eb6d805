//! Loans of one area: several at a time, ended in any order, made by handlers, and abandoned by a fork.

use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed};
use linux_raw_sys::general::{__NR_rseq, SIGUSR1, siginfo_t};

use rseq_rt::{Area, Error, Exit, ExitMode, Lent, State, Thread};

use super::common::{Hooks as _, is_right, main_thread_with};
use crate::errno::Errno;
use crate::harness::{Ctx, Needs, Test, must_pass, vforked};
use crate::hooked::{self, RSEQ};
use crate::seccomp::{self, Answer, When};
use crate::stack::Stack;
use crate::sys::process::{self, Status};
use crate::sys::signal::kill_thread;
use crate::{signals, witness};

// Under qemu-user a vfork child has its own memory, so nothing is shared there.
pub const TESTS: &[Test] = &[
    Test::new("loans/ended-in-any-order", any_order),
    Test::new("loans/more-than-can-be-told-apart", too_many),
    Test::new("loans/a-handler-lends-what-is-lent", nested).needs(Needs::REAL_KERNEL),
    Test::new("loans/a-handler-forks-during-a-loan", handler_forks).needs(Needs::REAL_KERNEL),
    Test::new("loans/a-vfork-child-forks", vfork_child_forks).needs(Needs::REAL_KERNEL),
    Test::new("loans/a-fork-without-one-repairs-nothing", not_lent),
    Test::new(
        "loans/a-repair-that-is-pretended-releases-nothing",
        pretended,
    )
    .needs(Needs::REAL_KERNEL)
    .needs(Needs::SECCOMP),
];

const STACK: usize = 64 * 1024;
const ENDED_WELL: Result<Status, Errno> = Ok(Status::Exited(0));

/// The main thread, with the slice extension where the kernel has it: a loan must not lose it.
fn begin(ctx: &Ctx<'_>) -> Thread<'static> {
    main_thread_with(hooked::config(ctx.env).slice_extension())
}

/// The parts of an area that a loan disables: the state, the slice extension, mm_cid.
type Usable = (State, bool, bool);

const LENT: Usable = (State::Lent, false, false);

fn usable(area: &Area) -> Usable {
    (
        area.state(),
        area.has_slice_extension(),
        RSEQ.current_mm_cid(area).is_some(),
    )
}

/// After the last loan everything is as before the first.
#[track_caller]
fn assert_restored(area: &Area, before: Usable) {
    assert_eq!(usable(area), before);
    is_right(area);
}

fn any_order(ctx: &Ctx<'_>) {
    let thread = begin(ctx);
    let area = thread.area();
    let before = usable(area);
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let mut loans = [(); 3].map(|()| Some(thread.lend()));
        for nth in order {
            assert_eq!(usable(area), LENT, "before the last end");
            loans[nth].take().unwrap().end();
        }
        assert_restored(area, before);
    }
}

/// Tokens as numbers, as a language without destructors has them.
fn too_many(ctx: &Ctx<'_>) {
    let thread = begin(ctx);
    let area = thread.area();
    let before = usable(area);
    let end = |raw| {
        // SAFETY: from_raw (1) of this thread's, (2) no child was made.
        let loan = unsafe { Lent::from_raw(area, raw) };
        loan.map(Lent::end).is_some()
    };
    assert!(!end(1), "a loan that nobody made");
    for raw in 1..=7 {
        assert_eq!(thread.lend().into_raw(), raw);
    }
    for _ in 0..2 {
        assert_eq!(thread.lend().into_raw(), 0, "an eighth loan");
        assert!(end(0), "the end of the eighth");
    }
    assert!(!end(8) && !end(255), "no such loan");
    for raw in [4, 1, 7, 2, 6, 3, 5] {
        assert_eq!(usable(area), LENT, "before the last end");
        assert!(end(raw), "the end of {raw}");
        assert!(!end(raw), "{raw} ended twice");
    }
    assert_restored(area, before);
}

static HANDLED: AtomicU32 = AtomicU32::new(0);

/// Runs `handler` on this thread now.
fn interrupt(handler: signals::Handler) {
    // SAFETY: handle (1) it is sent to this thread alone, from here.
    unsafe { signals::handle(SIGUSR1 as i32, handler, 0) }.unwrap();
    let before = HANDLED.load(Relaxed);
    kill_thread(process::gettid(), SIGUSR1 as i32).unwrap();
    assert_ne!(HANDLED.load(Relaxed), before, "no handler ran");
}

/// A handler between the loan and the child, and one in the child, each with its own child.
fn nested(ctx: &Ctx<'_>) {
    unsafe extern "C" fn spawns(_: i32, _: *mut siginfo_t, _: *mut u8) {
        HANDLED.fetch_add(1, Relaxed);
        let area = &hooked::here().unwrap().area;
        let stack = Stack::map(STACK).unwrap();
        // SAFETY: of (1) the calling thread's, or its parent's, which is suspended.
        let lent = unsafe { Lent::of(area) };
        let child = vforked(stack, || assert_eq!(usable(area), LENT));
        lent.end();
        // SAFETY: the child is gone.
        unsafe { stack.unmap() }.unwrap();
        assert_eq!(child, ENDED_WELL, "a handler's child");
    }
    let thread = begin(ctx);
    let (area, stack) = (thread.area(), Stack::map(STACK).unwrap());
    let before = usable(area);
    for _ in 0..ctx.scale(50, 10, 0) {
        let lent = thread.lend();
        interrupt(spawns);
        assert_eq!(usable(area), LENT, "after a handler's loan");
        let child = vforked(stack, || {
            interrupt(spawns);
            assert_eq!(usable(area), LENT, "in the child");
        });
        assert_eq!(child, ENDED_WELL);
        assert_eq!(usable(area), LENT, "after the child");
        lent.end();
        assert_restored(area, before);
    }
}

/// In a fork child that inherited a loan, which nobody will end here.
fn repair(area: &Area, before: Usable) {
    assert_eq!(usable(area), LENT, "in the child");
    // SAFETY: repair_in_fork_child (1) the area of the thread that this one copies; (2) a fork child without children;
    // (3) the parent's loan is not ended here.
    assert_eq!(unsafe { RSEQ.repair_in_fork_child(area) }, before.0);
    assert_restored(area, before);
    // SAFETY: as above.
    let again = unsafe { RSEQ.repair_in_fork_child(area) };
    assert_eq!(again, before.0, "repaired twice");
    let thread = RSEQ.thread_of(area).unwrap();
    let _gone = hooked::release(thread).unwrap();
    assert!(!witness::kernel_knows(area), "released, and still known");
}

fn handler_forks(ctx: &Ctx<'_>) {
    // For the handler, which takes no argument.
    static BEFORE: AtomicPtr<Usable> = AtomicPtr::new(core::ptr::null_mut());
    unsafe extern "C" fn forks(_: i32, _: *mut siginfo_t, _: *mut u8) {
        HANDLED.fetch_add(1, Relaxed);
        let area = &hooked::here().unwrap().area;
        // SAFETY: on the stack of the test, which this handler interrupts.
        let before = unsafe { *BEFORE.load(Relaxed) };
        must_pass(|| repair(area, before));
    }
    let thread = begin(ctx);
    let area = thread.area();
    let mut before = usable(area);
    BEFORE.store(&raw mut before, Relaxed);
    for loans in 1..=3 {
        let mut lent = [const { None }; 3];
        lent[..loans].fill_with(|| Some(thread.lend()));
        interrupt(forks);
        assert_eq!(usable(area), LENT, "after the child");
        drop(lent);
        assert_restored(area, before);
    }
}

/// The vfork child is not registered, so neither is its fork child, whatever the copied memory says.
fn vfork_child_forks(ctx: &Ctx<'_>) {
    let thread = begin(ctx);
    let (area, stack) = (thread.area(), Stack::map(STACK).unwrap());
    let before = usable(area);
    for _ in 0..ctx.scale(20, 5, 0) {
        let lent = thread.lend();
        let child = vforked(stack, || must_pass(|| repair(area, before)));
        lent.end();
        assert_eq!(child, ENDED_WELL);
        assert_restored(area, before);
    }
}

fn not_lent(ctx: &Ctx<'_>) {
    static NEW: Area = Area::new();
    let thread = begin(ctx);
    let area = thread.area();
    let before = usable(area);
    must_pass(|| {
        // SAFETY: repair_in_fork_child (1) the thread's areas; (2) a fork child; (3) there is no loan.
        let states = unsafe { [area, &NEW].map(|area| RSEQ.repair_in_fork_child(area)) };
        assert_eq!(states, [before.0, State::Unregistered]);
        assert_restored(area, before);
        let nobody = RSEQ.thread_of(&NEW).map(drop);
        assert_eq!(nobody, Err(Error::NotCreated));
    });
}

/// A filter answers 0 in the child, and before Linux 7.0 the attempt clears the CPU by which a release would be seen through.
fn pretended(ctx: &Ctx<'_>) {
    let thread = begin(ctx);
    let area = thread.area();
    core::mem::forget(thread.lend());
    must_pass(|| {
        seccomp::install(__NR_rseq, When::Always, Answer::Errno(Errno(0))).unwrap();
        // SAFETY: repair_in_fork_child (1) the area of the thread that this one copies; (2) a fork child without children;
        // (3) the parent's loan is not ended here.
        let state = unsafe { RSEQ.repair_in_fork_child(area) };
        assert!(matches!(state, State::Unavailable(_)), "{state:?}");
        let thread = RSEQ.thread_of(area).unwrap();
        let Exit::Kept(kept) = thread.on_exit(ExitMode::Release) else {
            panic!("released, and the kernel still writes");
        };
        assert!(matches!(kept.why(), Some(Error::StillRegistered(_))));
    });
}
