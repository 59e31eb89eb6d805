//! The hooks restore the signal mask exactly, whatever it was, under the storm.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use rseq_rt::{Area, SignalMask, State};

use super::storm::{HANDLED, Open, STACK, TARGETS, begin, blocked_by_hooks, enter, every};
use crate::harness::{Ctx, passed};
use crate::hooked::{self, RSEQ};
use crate::hooks::common::Hooks as _;
use crate::sys::signal::{self, Mask};
use crate::thread;

static ROUNDS: AtomicU64 = AtomicU64::new(0);

/// No signal, all, each alone, all but one, then random masks.
fn starting_mask(n: u64) -> u64 {
    match n {
        0 => 0,
        1 => u64::MAX,
        2..66 => 1 << (n - 2),
        66..130 => !(1 << (n - 66)),
        // splitmix64
        _ => {
            let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ z >> 31
        }
    }
}

fn assert_mask(expected: u64, after: &str) {
    let now = signal::blocked().unwrap();
    assert!(now == expected, "{now:#x} after {after}, not {expected:#x}");
}

fn release(area: &Area) {
    let thread = RSEQ.thread_of(area).unwrap();
    let gone = hooked::release(thread).unwrap();
    assert_mask(blocked_by_hooks(), "the exit hook");
    // SAFETY: recycle_area (1) signals are blocked.
    unsafe { gone.recycle_area() };
}

fn from(mask: u64, area: &Area) {
    let found = mask & every();
    signal::mask(Mask::Exactly(mask)).unwrap();
    assert_mask(found, "setting it");
    let _thread = RSEQ.create(area).unwrap();
    assert_mask(found, "the create hook");
    let masked = SignalMask::block_all().unwrap();
    assert_mask(blocked_by_hooks(), "blocking all");
    assert_eq!(masked.previous(), found);
    masked.restore().unwrap();
    assert_mask(found, "restore");
    release(area);

    signal::mask(Mask::Exactly(mask)).unwrap();
    let scope = RSEQ.scope(area).unwrap();
    assert_mask(found, "the begin of a scope");
    let _ = scope.end();
    assert_mask(found, "the end of a scope");
    let lazily = RSEQ.ensure(area);
    assert_mask(found, "lazy registration");
    assert_ne!(lazily, Ok(State::Unregistered));
    release(area);
}

pub(super) fn masks(ctx: &Ctx<'_>) {
    fn each_mask(open: &Open) {
        enter(open.slot);
        for n in 0..ROUNDS.load(Relaxed) {
            from(starting_mask(n), &open.area);
        }
    }
    let storm = begin(ctx);
    let rounds = ctx.scale(60_000, 1_000, 400);
    ROUNDS.store(rounds, Relaxed);
    let area = Area::new();
    thread::run(STACK, Open { area, slot: 0 }, each_mask);
    for target in &TARGETS {
        target.store(0, Relaxed);
    }
    let sent = storm.stop().unwrap();
    let handled = HANDLED.load(Relaxed);
    assert_ne!(handled, 0, "no handler ran");
    passed!("{rounds} masks, {sent} sent, {handled} handled");
}
