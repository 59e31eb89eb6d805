//! Create and exit under the storm, with signals open wherever the hooks allow it.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use linux_raw_sys::general::SIGSEGV;
use rseq_rt::{Area, ExitMode, SignalMask, State, Thread, arch};

use super::storms_weather::{
    ALIVE, HANDLED, LATE, Open, REGISTERED_LAZILY, SENT, STACK, another_handler, begin,
    blocked_by_hooks, enter, expect, handlers, leave, nothing_registered,
};
use crate::errno::Errno;
use crate::harness::{Ctx, PASSED, Test, Verdict, expect_killed_by, failed};
use crate::hooked::{self, Hooked, RSEQ};
use crate::sys::signal::{self, Mask};
use crate::sys::{process, task};
use crate::{check, passed, tcb, text, thread};

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("storms/create-open-and-keep", open_and_keep),
    Test::new("storms/detached-release", detached),
    Test::new("storms/release-without-mask-is-fatal", unmasked_release),
    Test::new("storms/open-after-exit-stays-exiting", open_after_exit),
];

/// The thread's whole life with signals open, but for what the hooks block.
fn live_open(open: &Open) {
    enter(open.slot);
    // Every other one meets the create hook when a handler has registered it already.
    if open.slot.is_multiple_of(2) {
        another_handler();
    }
    // SAFETY: on_thread_create (1, 3) its own area, here; (2) in the block of a joinable thread.
    let Ok(thread) = (unsafe { RSEQ.on_thread_create(&open.area) }) else {
        let _ = failed(text!("not created"));
        process::exit_group(1)
    };
    if matches!(thread.state(), State::Unregistered | State::Exiting) {
        let _ = failed(text!("created, and no state"));
    }
    if signal::blocked() != Ok(0) {
        let _ = failed(text!("the create hook left signals blocked"));
    }
    another_handler();
    let kept = thread.on_exit(ExitMode::Keep).into_kept();
    if signal::blocked() != Ok(blocked_by_hooks()) {
        let _ = failed(text!("the exit hook left signals open"));
    }
    // SAFETY: exit (1) nothing waits to be dropped.
    unsafe { kept.exit(0) }
}

fn open_and_keep(ctx: &Ctx<'_>) -> Verdict {
    let storm = begin(ctx)?;
    let rounds = ctx.scale(5_000, 50, 40);
    for _ in 0..rounds {
        let mut threads = [const { None }; ALIVE];
        for (slot, place) in threads.iter_mut().enumerate() {
            expect(slot);
            let area = Area::new();
            *place = Some(thread::start(STACK, Open { area, slot }, live_open)?);
        }
        for (slot, thread) in threads.into_iter().enumerate() {
            // Before the join: its block, and with it its area, goes there.
            leave(slot);
            if let Some(thread) = thread {
                let state = thread.payload().area.state();
                check!(state == State::Exiting, "registered after its exit hook");
                thread.join()?;
            }
        }
    }
    let sent = storm.stop()?;
    summary(rounds * ALIVE as u64, sent)
}

fn summary(threads: u64, sent: u64) -> Verdict {
    let (handled, late) = (HANDLED.load(Relaxed), LATE.load(Relaxed));
    check!(late == 0, late, " handlers ran after the exit hook");
    check!(handled > 0, "no handler ran");
    let lazily = REGISTERED_LAZILY.load(Relaxed);
    passed!(
        threads,
        " threads, ",
        sent,
        " sent, ",
        handled,
        " handled, ",
        lazily,
        " registered by a handler"
    )
}

fn under_storm(_: &Thread<'_>, hooked: &Hooked) {
    enter(hooked.argument);
    if hooked.argument.is_multiple_of(2) {
        another_handler();
    }
}

fn rounds_of_detached(rounds: u64, body: hooked::Body) -> Result<(), Errno> {
    for _ in 0..rounds {
        for slot in 0..ALIVE {
            leave(slot);
            expect(slot);
            hooked::start_detached(STACK, body, slot)?;
        }
    }
    (0..ALIVE).for_each(leave);
    Ok(())
}

fn detached(ctx: &Ctx<'_>) -> Verdict {
    let storm = begin(ctx)?;
    let rounds = ctx.scale(10_000, 50, 40);
    rounds_of_detached(rounds, under_storm)?;
    let sent = storm.stop()?;
    summary(rounds * ALIVE as u64, sent)
}

/// The calling thread's own value once more, for an exit by hand.
fn owned(hooked: &Hooked) -> Thread<'_> {
    // SAFETY: current_thread (1) its own area, (2) the other one is not used after this.
    match unsafe { RSEQ.current_thread(&hooked.area) } {
        Ok(thread) => thread,
        Err(_) => process::exit_group(3),
    }
}

/// The broken exit: released, and signals open while the stack goes. `Gone::unmap_and_exit` would block them.
fn release_unmasked(_: &Thread<'_>, hooked: &Hooked) {
    enter(hooked.argument);
    // SAFETY: assume_blocked (1) not at all: this is the variant that must die.
    let mask = unsafe { SignalMask::assume_blocked(0) };
    if hooked::release_masked(owned(hooked), &mask).is_err() {
        process::exit_group(4)
    }
    let stack = tcb::current().stack();
    // SAFETY: set_clear_tid (1) null; unmap_and_exit (1) not at all: a handler will want the stack; (2) nothing waits
    // to be dropped.
    unsafe {
        task::set_clear_tid(core::ptr::null_mut());
        arch::unmap_and_exit(stack.base(), stack.len(), 0)
    }
}

fn unmasked_release(ctx: &Ctx<'_>) -> Verdict {
    let threads = ctx.scale(100_000, 8_000, 8_000);
    expect_killed_by(SIGSEGV as i32, || {
        let Ok(storm) = begin(ctx) else {
            process::exit_group(2)
        };
        // One at a time: a second one's stack would be mapped where the first one's was, and a late handler's frame
        // would spoil it instead of killing.
        for _ in 0..threads {
            expect(0);
            if hooked::start_detached(STACK, release_unmasked, 0).is_err() {
                process::exit_group(2)
            }
            leave(0);
        }
        let _ = storm.stop();
    })?;
    passed!("killed within ", threads, " threads")
}

/// Who opens signals after the exit hook breaks its rules; still, nothing is registered any more.
fn open_after_exit(ctx: &Ctx<'_>) -> Verdict {
    static RELEASED: AtomicU64 = AtomicU64::new(0);
    fn open_for_signals(hooked: &Hooked) {
        let before = signal::mask(Mask::Exactly(0));
        for _ in 0..3 {
            let _ = signal::kill_thread(process::gettid(), SENT);
        }
        if let Ok(before) = before {
            let _ = signal::mask(Mask::Exactly(before));
        }
        if hooked.area.state() != State::Exiting {
            let _ = failed(text!("a handler changed the state after the exit hook"));
        }
    }
    fn kept(_: &Thread<'_>, hooked: &Hooked) {
        let kept = owned(hooked).on_exit(ExitMode::Keep).into_kept();
        open_for_signals(hooked);
        // SAFETY: exit (1) nothing waits to be dropped.
        unsafe { kept.exit(0) }
    }
    fn released(_: &Thread<'_>, hooked: &Hooked) {
        let Ok(gone) = hooked::release(owned(hooked)) else {
            process::exit_group(3)
        };
        open_for_signals(hooked);
        // SAFETY: the context lives on the main thread's stack until this thread is joined.
        let ctx = unsafe { &*core::ptr::with_exposed_provenance::<Ctx<'_>>(hooked.argument) };
        match nothing_registered(ctx) {
            Ok(true) => _ = RELEASED.fetch_add(1, Relaxed),
            _ => _ = failed(text!("registered after the release")),
        }
        // SAFETY: exit (1) as above.
        unsafe { gone.exit(0) }
    }
    super::lifetime::init(ctx)?;
    handlers()?;
    let rounds = ctx.scale(500, 50, 20);
    let argument = core::ptr::from_ref(ctx).expose_provenance();
    for _ in 0..rounds {
        for body in [kept as hooked::Body, released] {
            let thread = hooked::start_joinable(STACK, body, argument)?;
            check!(thread.join().is_ok(), "join");
        }
    }
    let (late, released) = (LATE.load(Relaxed), RELEASED.load(Relaxed));
    check!(late == rounds * 6, late, " late handlers");
    check!(released == rounds, released, " released");
    PASSED
}
