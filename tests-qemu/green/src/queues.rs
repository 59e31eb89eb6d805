//! No green thread lost or duplicated, and work that is stolen.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::{AcqRel, Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU64};

use guests::harness::{Ctx, Needs, Test, passed};
use guests::sys::sched::{self, CpuSet};

use super::{pin, runtime, spawn, wait_until};
use green::green::Handle;
use green::queue::{MpmcQueue, MutexQueue, PercpuQueue, RunQueue};
use green::slots::Count;
use green::switch::{move_to, yield_now};

pub const TESTS: &[Test] = &[
    Test::new("queues/each-once-percpu", each_once::<PercpuQueue>),
    Test::new("queues/each-once-mpmc", each_once::<MpmcQueue>),
    Test::new("queues/each-once-mutex", each_once::<MutexQueue>),
    Test::new("queues/more-than-a-ring-holds", more_than_a_ring),
    Test::new("queues/stolen", stolen).needs(Needs::RSEQ.cpus(2)),
    Test::new("queues/left-behind", left_behind).needs(Needs::RSEQ.cpus(2)),
];

/// The body of a green thread: it must not run in two places, and must run to its end.
fn yields(running: &AtomicBool, rounds: u64, done: &AtomicU64) {
    for _ in 0..rounds {
        let twice = running.swap(true, AcqRel);
        assert!(!twice, "a green thread runs on two carriers");
        core::hint::spin_loop();
        running.store(false, SeqCst);
        yield_now();
        done.fetch_add(1, Relaxed);
    }
}

fn crowd<Q: RunQueue>(ctx: &Ctx<'_>, green: u64, rounds: u64) {
    // More carriers than CPUs: they are preempted between any two steps.
    let carriers = ctx.facts.cpus * 3;
    let runtime = runtime::<Q>(ctx, green as usize, carriers);
    let done = Arc::new(AtomicU64::new(0));
    let mut crowd: Vec<Handle> = Vec::new();
    for _ in 0..green {
        let (done, running) = (Arc::clone(&done), AtomicBool::new(false));
        let handle = spawn(runtime, move || yields(&running, rounds, &done));
        crowd.push(handle);
    }
    crowd.into_iter().for_each(Handle::join);
    runtime.stop();
    let done = done.load(Relaxed);
    assert_eq!(done, green * rounds, "rounds");
    // One more switch to each of them, for its end.
    let switches = runtime.sum(Count::Switches);
    assert_eq!(switches, green * (rounds + 1), "switches");
    passed!(
        "{switches} switches, {} steals, {carriers} carriers",
        runtime.sum(Count::Steals)
    );
}

fn each_once<Q: RunQueue>(ctx: &Ctx<'_>) {
    crowd::<Q>(ctx, ctx.scale(100, 40, 40), ctx.scale(5000, 40, 100))
}

/// The overflow slots beside the rings, and the way back.
fn more_than_a_ring(ctx: &Ctx<'_>) {
    crowd::<PercpuQueue>(ctx, ctx.scale(2000, 600, 600), ctx.scale(50, 2, 4))
}

/// Work that its own CPU has no time for: one carrier is busy until another has run all of it.
fn stolen(ctx: &Ctx<'_>) {
    const WORK: u64 = 20;
    let runtime = runtime::<PercpuQueue>(ctx, WORK as usize + 1, 2);
    pin(runtime);
    let done = Arc::new(AtomicU64::new(0));
    let of_holder = Arc::clone(&done);
    let holder = move || {
        for _ in 0..WORK {
            let done = Arc::clone(&of_holder);
            // Their stacks stay: to join is to let the own carrier run them.
            let _ = spawn(runtime, move || _ = done.fetch_add(1, Relaxed));
        }
        while of_holder.load(Relaxed) != WORK {
            sched::relax();
        }
    };
    spawn(runtime, holder).join();
    runtime.stop();
    let steals = runtime.sum(Count::Steals);
    assert!(steals > 0, "nothing was stolen, but {WORK} were run");
    passed!("{steals} steals for {WORK}");
}

/// A CPU is taken away with green threads in its ring, while the carriers have enough to do elsewhere.
fn left_behind(ctx: &Ctx<'_>) {
    const GREEN: usize = 8;
    let runtime = runtime::<PercpuQueue>(ctx, GREEN, 2);
    pin(runtime);
    let over = Arc::new(AtomicBool::new(false));
    let rounds: Arc<[AtomicU64; GREEN]> = Arc::new([const { AtomicU64::new(0) }; GREEN]);
    let mut all: Vec<Handle> = Vec::new();
    for number in 0..GREEN {
        let (over, rounds) = (Arc::clone(&over), Arc::clone(&rounds));
        let body = move || {
            // Half of them on each carrier, whichever spawned them.
            move_to(number % 2);
            while !over.load(Relaxed) {
                rounds[number].fetch_add(1, Relaxed);
                yield_now();
            }
        };
        all.push(spawn(runtime, body));
    }
    let all_move_on = || {
        let seen: Vec<u64> = rounds.iter().map(|count| count.load(Relaxed)).collect();
        let moved = || {
            rounds
                .iter()
                .zip(&seen)
                .all(|(now, then)| now.load(Relaxed) > *then)
        };
        wait_until(moved)
    };
    all_move_on();
    let cpus = sched::allowed().unwrap();
    for cpu in cpus.iter().take(2) {
        // All carriers to one CPU, and then to the other: one of the two rings is abandoned each time.
        for (_, tid) in runtime.tids() {
            sched::allow(tid, &CpuSet::one(cpu)).unwrap();
        }
        all_move_on();
    }
    over.store(true, Relaxed);
    all.into_iter().for_each(Handle::join);
    runtime.stop();
    passed!("{} steals", runtime.sum(Count::Steals));
}
