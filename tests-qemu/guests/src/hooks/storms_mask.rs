//! The signal mask comes back exactly as it was, whatever it was, under the storm.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use rseq_rt::{Area, SignalMask, State};

use super::storms_weather::{HANDLED, Open, STACK, TARGETS, begin, blocked_by_hooks, enter, every};
use crate::harness::{Ctx, Test, Verdict, failed};
use crate::hooked::{self, RSEQ};
use crate::show::Hex;
use crate::sys::process;
use crate::sys::signal::{self, Mask};
use crate::{check, passed, text, thread};

/// The family.
pub const TESTS: &[Test] = &[Test::new("storms/mask-restored-exactly", masks)];

static ROUNDS: AtomicU64 = AtomicU64::new(0);

/// None, all, each alone, each left out, then random ones.
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

/// Fails the test unless the mask is `expected`.
#[track_caller]
fn expect_mask(expected: u64, after: &str) {
    let now = signal::blocked().unwrap_or(0);
    if now != expected {
        let _ = failed(text!(
            "the mask is ",
            Hex(now),
            " after ",
            *after,
            ", and was ",
            Hex(expected)
        ));
    }
}

fn release(area: &Area) {
    // SAFETY: current_thread (1) its own area, (2) none is in use.
    let thread = unsafe { RSEQ.current_thread(area) };
    let Some(gone) = thread.ok().and_then(|thread| hooked::release(thread).ok()) else {
        let _ = failed(text!("not released"));
        process::exit_group(1)
    };
    expect_mask(blocked_by_hooks(), "the exit hook");
    // SAFETY: recycle_area (1) signals are blocked.
    unsafe { gone.recycle_area() };
}

fn from(mask: u64, area: &Area) {
    let _ = signal::mask(Mask::Exactly(mask));
    let found = mask & every();
    expect_mask(found, "setting it");
    // SAFETY: on_thread_create (1, 3) its own area, here; (2) in a joinable thread's block.
    let created = unsafe { RSEQ.on_thread_create(area) };
    expect_mask(found, "the create hook");
    if created.is_err() {
        let _ = failed(text!("the create hook"));
    }
    match SignalMask::block_all() {
        Ok(masked) => {
            expect_mask(blocked_by_hooks(), "blocking all");
            if masked.previous() != found {
                let _ = failed(text!("the mask before is not ", Hex(found)));
            }
            let _ = masked.restore();
            expect_mask(found, "restore");
        }
        Err(_) => _ = failed(text!("not blocked")),
    }
    release(area);

    let _ = signal::mask(Mask::Exactly(mask));
    // SAFETY: scoped (1, 2, 3) as above.
    match unsafe { RSEQ.scoped(area) } {
        Ok(scope) => {
            expect_mask(found, "the begin of a scope");
            let _ = scope.end();
            expect_mask(found, "the end of a scope");
        }
        Err(_) => _ = failed(text!("no scope")),
    }
    // SAFETY: ensure_registered (1, 2) as above.
    let lazily = unsafe { RSEQ.ensure_registered(area) };
    expect_mask(found, "lazy registration");
    if lazily.is_ok_and(|state| state == State::Unregistered) {
        let _ = failed(text!("no state after lazy registration"));
    }
    release(area);
}

fn each_mask(open: &Open) {
    enter(open.slot);
    for n in 0..ROUNDS.load(Relaxed) {
        from(starting_mask(n), &open.area);
    }
}

fn masks(ctx: &Ctx<'_>) -> Verdict {
    let storm = begin(ctx)?;
    let rounds = ctx.scale(60_000, 1_000, 400);
    ROUNDS.store(rounds, Relaxed);
    let area = Area::new();
    thread::start(STACK, Open { area, slot: 0 }, each_mask)?.join()?;
    for target in &TARGETS {
        target.store(0, Relaxed);
    }
    let sent = storm.stop()?;
    let handled = HANDLED.load(Relaxed);
    check!(handled > 0, "no handler ran");
    passed!(rounds, " masks, ", sent, " sent, ", handled, " handled")
}
