//! Create and exit under a storm of signals, with signals open wherever the hooks allow it.

mod calls;
mod mask;
pub mod storm;

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use linux_raw_sys::general::SIGSEGV;
use rseq_rt::{Area, ExitMode, SignalMask, State, Thread, arch};

use self::storm::{
    ALIVE, HANDLED, LATE, Open, REGISTERED_LAZILY, SENT, STACK, another_handler, begin,
    blocked_by_hooks, enter, expect, handlers, leave, nothing_registered,
};
use super::common::{Hooks as _, init};
use super::lifetime::owned;
use crate::harness::{Ctx, Needs, Test, must_die, passed};
use crate::hooked::{self, Hooked, RSEQ};
use crate::sys::signal::{self, Mask};
use crate::sys::{process, task};
use crate::{tcb, thread};

#[rustfmt::skip] // a table
pub const TESTS: &[Test] = &[
    Test::new("storms/create-open-and-keep", open_and_keep),
    Test::new("storms/detached-release", detached),
    Test::new("storms/release-without-mask-is-fatal", unmasked_release),
    Test::new("storms/open-after-exit-stays-exiting", open_after_exit),
    Test::new("storms/mask-restored-exactly", mask::masks),
    Test::new("storms/signal-at-each-call", calls::at_each_call),
    Test::new("storms/create-without-second-look-is-fatal", calls::no_second_look).needs(Needs::RSEQ.cpus(2)),
];

/// The thread's whole life with signals open, except where the hooks block them.
fn live_open(open: &Open) {
    enter(open.slot);
    // In every other thread a handler has registered before the create hook.
    if open.slot.is_multiple_of(2) {
        another_handler();
    }
    let thread = RSEQ.create(&open.area).unwrap();
    let state = thread.state();
    assert!(!matches!(state, State::Unregistered | State::Exiting));
    assert_eq!(signal::blocked(), Ok(0), "after the create hook");
    another_handler();
    let kept = thread.on_exit(ExitMode::Keep).into_kept();
    assert_eq!(signal::blocked(), Ok(blocked_by_hooks()));
    // SAFETY: exit (1) nothing waits to be dropped.
    unsafe { kept.exit(0) }
}

fn open_and_keep(ctx: &Ctx<'_>) {
    let storm = begin(ctx);
    let rounds = ctx.scale(2_000, 50, 40);
    for _ in 0..rounds {
        let threads: [_; ALIVE] = core::array::from_fn(|slot| {
            expect(slot);
            let area = Area::new();
            thread::start(STACK, Open { area, slot }, live_open).unwrap()
        });
        for (slot, thread) in threads.into_iter().enumerate() {
            // Before the join, which frees its block and its area.
            leave(slot);
            assert_eq!(thread.payload().area.state(), State::Exiting);
            thread.join().unwrap();
        }
    }
    summary(rounds, storm.stop().unwrap());
}

fn summary(rounds: u64, sent: u64) {
    let handled = HANDLED.load(Relaxed);
    assert_eq!(LATE.load(Relaxed), 0, "handlers ran after the exit hook");
    assert_ne!(handled, 0, "no handler ran");
    let lazily = REGISTERED_LAZILY.load(Relaxed);
    let threads = rounds * ALIVE as u64;
    passed!("{threads} threads, {sent} sent, {handled} handled, {lazily} registered by a handler");
}

fn detached(ctx: &Ctx<'_>) {
    fn body(_: &Thread<'_>, hooked: &Hooked) {
        enter(hooked.argument);
        if hooked.argument.is_multiple_of(2) {
            another_handler();
        }
    }
    let storm = begin(ctx);
    let rounds = ctx.scale(4_000, 50, 40);
    for _ in 0..rounds {
        for slot in 0..ALIVE {
            leave(slot);
            expect(slot);
            hooked::start_detached(STACK, body, slot).unwrap();
        }
    }
    (0..ALIVE).for_each(leave);
    summary(rounds, storm.stop().unwrap());
}

/// The broken exit: released, but signals are open during the unmap. `Gone::unmap_and_exit` would block them.
fn release_unmasked(_: &Thread<'_>, hooked: &Hooked) {
    enter(hooked.argument);
    // SAFETY: assume_blocked (1) violated: this is the variant that must die.
    let mask = unsafe { SignalMask::assume_blocked(0) };
    let _gone = hooked::release_masked(owned(hooked), &mask).unwrap();
    let stack = tcb::current().stack();
    // SAFETY: set_clear_tid (1) null; unmap_and_exit (1) violated: a handler will use the stack; (2) nothing waits to
    // be dropped.
    unsafe {
        task::set_clear_tid(core::ptr::null_mut());
        arch::unmap_and_exit(stack.base(), stack.len(), 0)
    }
}

fn unmasked_release(ctx: &Ctx<'_>) {
    let threads = ctx.scale(100_000, 8_000, 8_000);
    must_die(SIGSEGV as i32, || {
        let storm = begin(ctx);
        // One at a time: a second one's stack would be mapped in place of the first one's, and the frame of a late
        // handler would corrupt it instead of crashing.
        for _ in 0..threads {
            expect(0);
            hooked::start_detached(STACK, release_unmasked, 0).unwrap();
            leave(0);
        }
        let _ = storm.stop();
    });
    passed!("killed within {threads} threads");
}

/// Opening signals after the exit hook breaks its rules; even so, nothing is registered any more.
fn open_after_exit(ctx: &Ctx<'_>) {
    static RELEASED: AtomicU64 = AtomicU64::new(0);
    fn open_for_signals(hooked: &Hooked) {
        let before = signal::mask(Mask::Exactly(0)).unwrap();
        for _ in 0..3 {
            signal::kill_thread(process::gettid(), SENT).unwrap();
        }
        signal::mask(Mask::Exactly(before)).unwrap();
        assert_eq!(hooked.area.state(), State::Exiting, "after a handler");
    }
    fn kept(_: &Thread<'_>, hooked: &Hooked) {
        let kept = owned(hooked).on_exit(ExitMode::Keep).into_kept();
        open_for_signals(hooked);
        // SAFETY: exit (1) nothing waits to be dropped.
        unsafe { kept.exit(0) }
    }
    fn released(_: &Thread<'_>, hooked: &Hooked) {
        let gone = hooked::release(owned(hooked)).unwrap();
        open_for_signals(hooked);
        // SAFETY: the context lives on the main thread's stack until this thread is joined.
        let ctx = unsafe { &*core::ptr::with_exposed_provenance::<Ctx<'_>>(hooked.argument) };
        assert!(nothing_registered(ctx), "registered after the release");
        RELEASED.fetch_add(1, Relaxed);
        // SAFETY: exit (1) as above.
        unsafe { gone.exit(0) }
    }
    init(ctx);
    handlers();
    let rounds = ctx.scale(500, 50, 20);
    let argument = core::ptr::from_ref(ctx).expose_provenance();
    for _ in 0..rounds {
        for body in [kept as hooked::Body, released] {
            let thread = hooked::start_joinable(STACK, body, argument).unwrap();
            thread.join().unwrap();
        }
    }
    assert_eq!(LATE.load(Relaxed), rounds * 6, "late handlers");
    assert_eq!(RELEASED.load(Relaxed), rounds);
}
