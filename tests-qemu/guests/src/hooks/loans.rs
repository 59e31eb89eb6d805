//! Loans of one area: several at a time, ended in any order, made by handlers, and left out by a fork.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;
use linux_raw_sys::general::{SIGUSR1, siginfo_t};

use rseq_rt::{Area, Error, Lent, Owner, State, Thread};

use super::children::is_right;
use crate::harness::{Ctx, Failed, Needs, PASSED, Test, Verdict, failed, forked, vforked};
use crate::hooked::{self, RSEQ};
use crate::stack::Stack;
use crate::sys::process::{self, Status, exit_group};
use crate::sys::signal::kill_thread;
use crate::{check, signals, text, witness};

/// The family. qemu-user makes a vfork child with memory of its own, so nothing is shared there.
pub const TESTS: &[Test] = &[
    Test::new("loans/ended-in-any-order", any_order),
    Test::new("loans/more-than-can-be-told-apart", too_many),
    Test::new("loans/a-handler-lends-what-is-lent", nested).needs(Needs::REAL_KERNEL),
    Test::new("loans/a-handler-forks-during-a-loan", handler_forks).needs(Needs::REAL_KERNEL),
    Test::new("loans/a-vfork-child-forks", vfork_child_forks).needs(Needs::REAL_KERNEL),
    Test::new("loans/a-fork-without-one-repairs-nothing", not_lent),
];

const STACK: usize = 64 * 1024;
const ALL_RIGHT: i32 = 7;

/// The main thread, with the slice extension where the kernel has it: a loan may not lose it.
fn begin(ctx: &Ctx<'_>) -> Result<Thread<'static>, Failed> {
    let config = hooked::config(ctx.env).slice_extension();
    check!(RSEQ.init(config) == Ok(None), "init");
    // SAFETY: (1) once in this process, on its main thread.
    unsafe { hooked::adopt_main() }.map_err(|_| failed(text!("the create hook")))
}

/// What a loan takes out of use and its end gives back.
fn usable(area: &Area) -> (State, bool, bool) {
    (
        area.state(),
        area.has_slice_extension(),
        RSEQ.current_mm_cid(area).is_some(),
    )
}

const LENT: (State, bool, bool) = (State::Lent, false, false);

fn any_order(ctx: &Ctx<'_>) -> Verdict {
    let thread = begin(ctx)?;
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
        let mut loans = [const { None }; 3];
        for loan in &mut loans {
            *loan = Some(thread.lend());
        }
        for nth in order {
            check!(usable(area) == LENT, "usable before the last end");
            if let Some(loan) = loans.get_mut(nth).and_then(Option::take) {
                loan.end();
            }
        }
        check!(usable(area) == before, "not as it was before the loans");
        is_right(area)?;
    }
    PASSED
}

/// As numbers, which is how a language without destructors has them.
fn too_many(ctx: &Ctx<'_>) -> Verdict {
    let thread = begin(ctx)?;
    let area = thread.area();
    let before = usable(area);
    // SAFETY: from_raw (1) of this thread's, (2) no child was made.
    let again = |raw| unsafe { Lent::from_raw(area, raw) };
    check!(again(1).is_none(), "a loan that nobody made");
    for raw in 1..=7 {
        check!(thread.lend().into_raw() == raw, "loan ", u32::from(raw));
    }
    for _ in 0..2 {
        let eighth = thread.lend().into_raw();
        check!(eighth == 0, "an eighth loan: ", u32::from(eighth));
        check!(again(0).is_some(), "the end of the eighth");
    }
    check!(again(8).is_none() && again(255).is_none(), "no such loan");
    for raw in [4, 1, 7, 2, 6, 3, 5] {
        check!(usable(area) == LENT, "usable before the last end");
        check!(again(raw).is_some(), "the end of ", u32::from(raw));
        check!(again(raw).is_none(), "ended twice: ", u32::from(raw));
    }
    check!(usable(area) == before, "not as it was before the loans");
    is_right(area)?;
    PASSED
}

static HANDLED: AtomicU32 = AtomicU32::new(0);

/// Runs `handler` on this thread now.
fn interrupt(handler: signals::Handler) -> Result<(), Failed> {
    // SAFETY: handle (1) it is sent to this thread alone, from here.
    unsafe { signals::handle(SIGUSR1 as i32, handler, 0)? };
    let before = HANDLED.load(Relaxed);
    kill_thread(process::gettid(), SIGUSR1 as i32)?;
    check!(HANDLED.load(Relaxed) != before, "no handler ran");
    Ok(())
}

/// A handler between the loan and the child, and one in the child, each with a child of its own.
fn nested(ctx: &Ctx<'_>) -> Verdict {
    unsafe extern "C" fn spawns(_: i32, _: *mut siginfo_t, _: *mut u8) {
        HANDLED.fetch_add(1, Relaxed);
        let (Some(hooked), Ok(stack)) = (hooked::here(), Stack::map(STACK)) else {
            return;
        };
        let area = &hooked.area;
        // SAFETY: of (1) the calling thread's, or its parent's, which stands still.
        let lent = unsafe { Lent::of(area) };
        let child = vforked(stack, || {
            if usable(area) != LENT {
                exit_group(1);
            }
        });
        lent.end();
        // SAFETY: the child is gone.
        let _ = unsafe { stack.unmap() };
        if child != Ok(Status::Exited(0)) {
            let _ = failed(text!("a handler's child ", child));
        }
    }
    let thread = begin(ctx)?;
    let (area, stack) = (thread.area(), Stack::map(STACK)?);
    let before = usable(area);
    for _ in 0..ctx.scale(50, 10, 0) {
        let lent = thread.lend();
        interrupt(spawns)?;
        check!(usable(area) == LENT, "the handler has ended our loan");
        let status = vforked(stack, || {
            if interrupt(spawns).is_err() || usable(area) != LENT {
                exit_group(1);
            }
        })?;
        check!(status == Status::Exited(0), "the child ", status);
        check!(usable(area) == LENT, "the loan ended by itself");
        lent.end();
        check!(usable(area) == before, "not as it was before the loan");
        is_right(area)?;
    }
    PASSED
}

/// In a fork child that inherited a loan: nobody will end it here.
fn repaired(area: &Area, before: (State, bool, bool)) -> Result<(), Failed> {
    check!(usable(area) == LENT, "not lent in the child");
    // SAFETY: repair_in_fork_child (1) the area of the thread that this one copies; (2) a fork child without children;
    // (3) the parent's loan is not ended here.
    let state = unsafe { RSEQ.repair_in_fork_child(area) };
    check!(state == before.0, "not as in the parent");
    check!(usable(area) == before, "not usable");
    is_right(area)?;
    // SAFETY: as above.
    let again = unsafe { RSEQ.repair_in_fork_child(area) };
    check!(again == state, "repaired twice");
    // SAFETY: current_thread (1) as above; (2) the parent's `Thread` stays the parent's.
    let Ok(thread) = (unsafe { RSEQ.current_thread(area) }) else {
        check!(false, "no current thread");
        return Ok(());
    };
    check!(hooked::release(thread).is_ok(), "release");
    check!(!witness::kernel_knows(area), "released, and still known");
    exit_group(ALL_RIGHT)
}

fn handler_forks(ctx: &Ctx<'_>) -> Verdict {
    unsafe extern "C" fn forks(_: i32, _: *mut siginfo_t, _: *mut u8) {
        HANDLED.fetch_add(1, Relaxed);
        let Some(hooked) = hooked::here() else { return };
        let before = before();
        let child = forked(|| _ = repaired(&hooked.area, before));
        if child != Ok(Status::Exited(ALL_RIGHT)) {
            let _ = failed(text!("a handler's child ", child));
        }
    }
    let thread = begin(ctx)?;
    let area = thread.area();
    remember(usable(area));
    for loans in 1..=3 {
        let mut lent = [const { None }; 3];
        for loan in lent.iter_mut().take(loans) {
            *loan = Some(thread.lend());
        }
        interrupt(forks)?;
        check!(usable(area) == LENT, "the child has ended our loan");
        drop(lent);
        check!(usable(area) == before(), "not as it was before the loan");
        is_right(area)?;
    }
    PASSED
}

/// The vfork child is not registered, so neither is its fork child, whatever the memory that was copied says.
fn vfork_child_forks(ctx: &Ctx<'_>) -> Verdict {
    let thread = begin(ctx)?;
    let (area, stack) = (thread.area(), Stack::map(STACK)?);
    let before = usable(area);
    for _ in 0..ctx.scale(20, 5, 0) {
        let lent = thread.lend();
        let status = vforked(stack, || {
            let child = forked(|| _ = repaired(area, before));
            exit_group(i32::from(child != Ok(Status::Exited(ALL_RIGHT))));
        })?;
        lent.end();
        check!(status == Status::Exited(0), "the child ", status);
        check!(usable(area) == before, "not as it was before the loan");
        is_right(area)?;
    }
    PASSED
}

fn not_lent(ctx: &Ctx<'_>) -> Verdict {
    static NEW: Area = Area::new();
    let thread = begin(ctx)?;
    let before = usable(thread.area());
    let status = forked(|| {
        // SAFETY: repair_in_fork_child (1) the thread's areas; (2) a fork child; (3) there is no loan.
        let states = unsafe { [thread.area(), &NEW].map(|area| RSEQ.repair_in_fork_child(area)) };
        // SAFETY: current_thread (1, 2): there is none.
        let nobody = unsafe { RSEQ.current_thread(&NEW) }.map(drop);
        let right = states == [before.0, State::Unregistered]
            && usable(thread.area()) == before
            && nobody == Err(Error::NotCreated)
            && is_right(thread.area()).is_ok();
        exit_group(if right { ALL_RIGHT } else { 1 });
    })?;
    check!(status == Status::Exited(ALL_RIGHT), "the child ", status);
    PASSED
}

// For a handler, which is given nothing: what the main thread's area was before its loans.
static REGISTERED: AtomicU32 = AtomicU32::new(0);
static HAS: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

fn remember((state, slice, mm_cid): (State, bool, bool)) {
    let registered = state == State::Registered(Owner::Runtime);
    REGISTERED.store(registered.into(), Relaxed);
    let [has_slice, has_mm_cid] = &HAS;
    has_slice.store(slice.into(), Relaxed);
    has_mm_cid.store(mm_cid.into(), Relaxed);
}

fn before() -> (State, bool, bool) {
    let state = match REGISTERED.load(Relaxed) {
        0 => State::Unavailable(rseq_rt::Reason::NoSyscall),
        _ => State::Registered(Owner::Runtime),
    };
    let [slice, mm_cid] = &HAS;
    (state, slice.load(Relaxed) != 0, mm_cid.load(Relaxed) != 0)
}
