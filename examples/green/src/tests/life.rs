//! Joins, sleeps, and carriers that come and go.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicU64};

use guests::errno::Errno;
use guests::harness::{Ctx, PASSED, Test, Verdict, failed};
use guests::sys::time::{self, Span};
use guests::{check, passed, text};

use super::{runtime, wait_until};
use crate::carrier::Exit;
use crate::green::Handle;
use crate::queue::{MutexQueue, PercpuQueue, RunQueue};
use crate::slots::Count;
use crate::switch::{sleep, yield_now};

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("life/joins-percpu", joins::<PercpuQueue>),
    Test::new("life/joins-mutex", joins::<MutexQueue>),
    Test::new("life/sleeps", sleeps),
    Test::new("life/carriers-come-and-go", carriers_come_and_go),
    Test::new("life/too-many", too_many),
];

/// A tree of green threads, each of which joins its two; now and then one that has ended already.
fn joins<Q: RunQueue>(ctx: &Ctx<'_>) -> Verdict {
    fn grow<Q: RunQueue>(
        runtime: &'static crate::runtime::Runtime<Q>,
        depth: u64,
        leaves: &Arc<AtomicU64>,
    ) {
        if depth == 0 {
            leaves.fetch_add(1, Relaxed);
            return;
        }
        let child = || {
            let leaves = Arc::clone(leaves);
            // SAFETY: spawn (1) it keeps handles and counts across its switches.
            unsafe { runtime.spawn(move || grow(runtime, depth - 1, &leaves)) }
        };
        let children = [child(), child()];
        if depth.is_multiple_of(2) {
            (0..8).for_each(|_| yield_now());
        }
        for child in children {
            match child {
                Ok(handle) => handle.join(),
                Err(_) => _ = failed(text!("spawn")),
            }
        }
    }
    let depth = ctx.scale(9, 6, 6);
    let runtime = runtime::<Q>(ctx, 2 << depth, ctx.facts.cpus.max(2))?;
    for _ in 0..ctx.scale(20, 3, 3) {
        let leaves = Arc::new(AtomicU64::new(0));
        let of_root = Arc::clone(&leaves);
        // SAFETY: spawn (1) it keeps handles and counts across its switches.
        let root = unsafe { runtime.spawn(move || grow(runtime, depth, &of_root)) };
        // From outside: this thread sleeps on a futex.
        root?.join();
        let leaves = leaves.load(Relaxed);
        check!(leaves == 1 << depth, leaves, " leaves of ", 1u64 << depth);
    }
    runtime.stop();
    passed!(1u64 << depth, " leaves each time")
}

/// Nobody wakes too early, all wake, and meanwhile the carriers sleep too.
fn sleeps(ctx: &Ctx<'_>) -> Verdict {
    let runtime = runtime::<PercpuQueue>(ctx, 50, 2)?;
    let early = Arc::new(AtomicBool::new(false));
    let mut all: Vec<Handle> = Vec::new();
    for number in 0..50u64 {
        let early = Arc::clone(&early);
        let body = move || {
            for turn in 0..3 {
                let span = Span::millis(1 + (number * 7 + turn * 3) % 20);
                let begun = time::now();
                sleep(span);
                if time::now().0 < begun.0 + span.0 {
                    early.store(true, Relaxed);
                }
            }
        };
        // SAFETY: spawn (1) it keeps times across its switches.
        all.push(unsafe { runtime.spawn(body) }?);
    }
    all.into_iter().for_each(Handle::join);
    runtime.stop();
    check!(!early.load(Relaxed), "one woke before its time");
    // Once to begin, and once after each sleep: who is asleep is not run.
    let switches = runtime.sum(Count::Switches);
    check!(
        switches == 50 * 4,
        switches,
        " switches for 50 times 3 sleeps"
    );
    passed!(switches, " switches")
}

/// Carriers are born and leave in both ways while green threads run on whatever is there.
fn carriers_come_and_go(ctx: &Ctx<'_>) -> Verdict {
    let runtime = runtime::<PercpuQueue>(ctx, 40, 2)?;
    let (over, rounds) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut all: Vec<Handle> = Vec::new();
    for number in 0..40u64 {
        let (over, rounds) = (Arc::clone(&over), Arc::clone(&rounds));
        let body = move || {
            while !over.load(Relaxed) {
                rounds.fetch_add(1, Relaxed);
                match number % 4 {
                    0 => sleep(Span::micros(300)),
                    _ => yield_now(),
                }
            }
        };
        // SAFETY: spawn (1) it keeps counts across its switches.
        all.push(unsafe { runtime.spawn(body) }?);
    }
    let turns = ctx.scale(300, 20, 20);
    for turn in 0..turns {
        let exit = if turn % 2 == 0 {
            Exit::Detached
        } else {
            Exit::Joinable
        };
        runtime.start_carrier(exit)?;
        runtime.retire_carrier();
        if turn % 16 == 0 {
            // Down to one, and up again.
            wait_until(|| runtime.carriers() == 2)?;
            runtime.retire_carrier();
            wait_until(|| runtime.carriers() == 1)?;
            let before = rounds.load(Relaxed);
            wait_until(|| rounds.load(Relaxed) > before)?;
            runtime.start_carrier(exit)?;
        }
    }
    over.store(true, Relaxed);
    all.into_iter().for_each(Handle::join);
    wait_until(|| runtime.carriers() == 2)?;
    runtime.stop();
    check!(
        runtime.carriers() == 0,
        runtime.carriers(),
        " carriers after the stop"
    );
    passed!(
        turns,
        " carriers came and went, ",
        rounds.load(Relaxed),
        " rounds"
    )
}

/// More green threads than the runtime was made for: a clear answer, and room again after an end.
fn too_many(ctx: &Ctx<'_>) -> Verdict {
    let runtime = runtime::<PercpuQueue>(ctx, 2, 1)?;
    let over = Arc::new(AtomicBool::new(false));
    let spawn = || {
        let over = Arc::clone(&over);
        let body = move || {
            while !over.load(Relaxed) {
                yield_now();
            }
        };
        // SAFETY: spawn (1) it keeps a flag across its switches.
        unsafe { runtime.spawn(body) }
    };
    let two = [spawn()?, spawn()?];
    check!(spawn().err() == Some(Errno::AGAIN), "a third one");
    over.store(true, Relaxed);
    two.into_iter().for_each(Handle::join);
    spawn()?.join();
    runtime.stop();
    PASSED
}
