//! Joins, sleeps, and carriers that come and go.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicU64};
use core::time::Duration;

use guests::harness::{Ctx, Test, passed};

use super::{runtime, spawn, wait_until};
use green::carrier::Exit;
use green::green::Handle;
use green::queue::{MutexQueue, PercpuQueue, RunQueue};
use green::slots::Count;
use green::switch::{sleep, yield_now};
use green::sys::now;

pub const TESTS: &[Test] = &[
    Test::new("life/joins-percpu", joins::<PercpuQueue>),
    Test::new("life/joins-mutex", joins::<MutexQueue>),
    Test::new("life/sleeps", sleeps),
    Test::new("life/carriers-come-and-go", carriers_come_and_go),
    Test::new("life/too-many", too_many),
];

/// A tree of green threads, each of which joins its two children, some of which have ended already.
fn joins<Q: RunQueue>(ctx: &Ctx<'_>) {
    fn grow<Q: RunQueue>(
        runtime: &'static green::runtime::Runtime<Q>,
        depth: u64,
        leaves: &Arc<AtomicU64>,
    ) {
        if depth == 0 {
            leaves.fetch_add(1, Relaxed);
            return;
        }
        let child = || {
            let leaves = Arc::clone(leaves);
            spawn(runtime, move || grow(runtime, depth - 1, &leaves))
        };
        let children = [child(), child()];
        if depth.is_multiple_of(2) {
            (0..8).for_each(|_| yield_now());
        }
        for child in children {
            child.join();
        }
    }
    let depth = ctx.scale(9, 6, 6);
    let runtime = runtime::<Q>(ctx, 2 << depth, ctx.facts.cpus.max(2));
    for _ in 0..ctx.scale(20, 3, 3) {
        let leaves = Arc::new(AtomicU64::new(0));
        let of_root = Arc::clone(&leaves);
        let root = spawn(runtime, move || grow(runtime, depth, &of_root));
        // From outside: this thread sleeps on a futex.
        root.join();
        assert_eq!(leaves.load(Relaxed), 1 << depth, "leaves");
    }
    runtime.stop();
    passed!("{} leaves each time", 1u64 << depth);
}

/// No green thread wakes too early, all wake, and meanwhile the carriers sleep too.
fn sleeps(ctx: &Ctx<'_>) {
    let runtime = runtime::<PercpuQueue>(ctx, 50, 2);
    let mut all: Vec<Handle> = Vec::new();
    for number in 0..50u64 {
        let body = move || {
            for turn in 0..3 {
                let span = Duration::from_millis(1 + (number * 7 + turn * 3) % 20);
                let begun = now();
                sleep(span);
                let slept = Duration::from_nanos(now() - begun);
                assert!(slept >= span, "it woke too early");
            }
        };
        all.push(spawn(runtime, body));
    }
    all.into_iter().for_each(Handle::join);
    runtime.stop();
    // Once to begin, and once after each sleep: a sleeping thread does not run.
    let switches = runtime.sum(Count::Switches);
    assert_eq!(switches, 50 * 4, "switches for 50 times 3 sleeps");
    passed!("{switches} switches");
}

/// Carriers start and exit in both ways while green threads run on the others.
fn carriers_come_and_go(ctx: &Ctx<'_>) {
    let runtime = runtime::<PercpuQueue>(ctx, 40, 2);
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
                    0 => sleep(Duration::from_micros(300)),
                    _ => yield_now(),
                }
            }
        };
        all.push(spawn(runtime, body));
    }
    let turns = ctx.scale(300, 20, 20);
    for turn in 0..turns {
        let exit = if turn % 2 == 0 {
            Exit::Detached
        } else {
            Exit::Joinable
        };
        runtime.start_carrier(exit).unwrap();
        runtime.retire_carrier();
        if turn % 16 == 0 {
            // Down to one, and up again.
            wait_until(|| runtime.carriers() == 2);
            runtime.retire_carrier();
            wait_until(|| runtime.carriers() == 1);
            let before = rounds.load(Relaxed);
            wait_until(|| rounds.load(Relaxed) > before);
            runtime.start_carrier(exit).unwrap();
        }
    }
    over.store(true, Relaxed);
    all.into_iter().for_each(Handle::join);
    wait_until(|| runtime.carriers() == 2);
    runtime.stop();
    assert_eq!(runtime.carriers(), 0, "carriers after the stop");
    passed!(
        "{turns} carriers came and went, {} rounds",
        rounds.load(Relaxed)
    );
}

/// More green threads than the runtime's capacity: a clear error, and room again after an exit.
fn too_many(ctx: &Ctx<'_>) {
    let runtime = runtime::<PercpuQueue>(ctx, 2, 1);
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
    let two = [spawn().unwrap(), spawn().unwrap()];
    assert_eq!(spawn().err(), Some(rustix::io::Errno::AGAIN), "a third one");
    over.store(true, Relaxed);
    two.into_iter().for_each(Handle::join);
    spawn().unwrap().join();
    runtime.stop();
}
