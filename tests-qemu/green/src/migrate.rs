//! rseq belongs to the carrier: green threads that run every operation on another one.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use guests::harness::{Ctx, Needs, Test, child, passed};
use guests::sys::process::{self, Status};
use guests::sys::sched;
use rseq_rt::percpu::{CpuId, SectionSupport};
use rseq_rt::structures::{Counter, CounterSlot};

use super::{pin, runtime, spawn};
use green::carrier::{self, Carrier, RSEQ, here_unguarded};
use green::green::Handle;
use green::queue::{PercpuQueue, RunQueue};
use green::runtime::Runtime;
use green::switch::{move_to, yield_now};

pub const TESTS: &[Test] = &[
    Test::new("migrate/every-operation", every_operation),
    Test::new("migrate/kept-carrier-is-another-thread", kept_carrier),
    Test::new("migrate/kept-area-is-another-cpu", kept_area).needs(Needs::RSEQ.cpus(2)),
    Test::new("migrate/kept-area-loses-counts", kept_area_loses)
        .needs(Needs::RSEQ.and(Needs::NATIVE).cpus(2)),
    Test::new("migrate/switch-under-a-loan", switch_under_a_loan),
];

const CPUS: usize = 64;

fn counter() -> &'static Counter<'static> {
    let slots: &'static [CounterSlot; CPUS] =
        Box::leak(Box::new([const { CounterSlot::new() }; CPUS]));
    Box::leak(Box::new(Counter::new(slots)))
}

/// The observations of a test's operations.
#[derive(Default)]
struct Seen {
    operations: AtomicU64,
    migrations: AtomicU64,
    another_carrier: AtomicU64,
    another_cpu: AtomicU64,
}

/// One operation through `carrier`, which should be the calling one.
///
/// # Safety
/// 1. It is. The broken variants violate this, on a live carrier.
unsafe fn operate(carrier: &Carrier, counter: &Counter<'_>, seen: &Seen) {
    let area = carrier.area();
    // SAFETY: current (1) is (1); (2) used at once.
    counter.add(unsafe { RSEQ.current::<CpuId>(area) }, 1);
    seen.operations.fetch_add(1, Relaxed);
    let cpu = sched::getcpu().map(|(cpu, _)| cpu);
    // Pinned, a carrier is on the same CPU in both calls.
    if cpu.ok() != RSEQ.current_cpu(area).ok() {
        seen.another_cpu.fetch_add(1, Relaxed);
    }
    if carrier.tid() != process::gettid() {
        seen.another_carrier.fetch_add(1, Relaxed);
    }
}

/// How an operation finds its carrier.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Anew after every switch.
    Fresh,
    /// Once, before the first: the broken variant.
    Kept,
}

fn hop(way: Way, hops: u64, carriers: usize, counter: &Counter<'_>, seen: &Seen) {
    let kept = here_unguarded();
    let mut before = process::gettid();
    for number in 0..hops {
        move_to(number as usize % carriers);
        let now = process::gettid();
        seen.migrations.fetch_add(u64::from(now != before), Relaxed);
        before = now;
        match way {
            // SAFETY: operate (1) lent by `here`.
            Way::Fresh => carrier::here(|here| unsafe { operate(here, counter, seen) }),
            // SAFETY: the carriers live until the runtime is stopped. operate (1) is violated.
            Way::Kept => unsafe { operate(&*kept, counter, seen) },
        }
    }
}

fn all_hop(ctx: &Ctx<'_>, way: Way) -> (Arc<Seen>, &'static Counter<'static>) {
    let (green, hops) = (ctx.scale(8, 4, 4), ctx.scale(1000, 50, 100));
    let runtime = runtime::<PercpuQueue>(ctx, green as usize, ctx.facts.cpus.clamp(2, 4));
    pin(runtime);
    let carriers = runtime.tids().count();
    let (seen, counter) = (Arc::new(Seen::default()), counter());
    let mut all: Vec<Handle> = Vec::new();
    for _ in 0..green {
        let seen = Arc::clone(&seen);
        let handle = spawn(runtime, move || hop(way, hops, carriers, counter, &seen));
        all.push(handle);
    }
    all.into_iter().for_each(Handle::join);
    runtime.stop();
    assert_eq!(seen.operations.load(Relaxed), green * hops, "operations");
    (seen, counter)
}

/// The correct variant.
fn every_operation(ctx: &Ctx<'_>) {
    let (seen, counter) = all_hop(ctx, Way::Fresh);
    let (sum, overflowed) = (counter.sum(), counter.overflowed());
    let [operations, migrations, carriers, cpus] = [
        &seen.operations,
        &seen.migrations,
        &seen.another_carrier,
        &seen.another_cpu,
    ]
    .map(|count| count.load(Relaxed));
    assert_eq!(sum as u64, operations);
    assert_eq!(
        (carriers, cpus),
        (0, 0),
        "on another carrier, on another CPU"
    );
    // Where sections run, they do the counting: one in a hundred may have been aborted too often.
    let sections = ctx.facts.rseq.is_ok() && RSEQ.section_support() == SectionSupport::Allowed;
    assert!(
        !sections || overflowed <= sum / 100,
        "{overflowed} of {sum} by the overflow slot"
    );
    assert!(
        sections || overflowed == sum,
        "{overflowed} of {sum} by the overflow slot, without rseq"
    );
    // The first of each may find itself on the right carrier already.
    let least = operations - ctx.scale(8, 4, 4);
    assert!(
        migrations >= least,
        "{migrations} migrations for {operations} operations"
    );
    passed!("{operations} operations, {migrations} migrations between carriers");
}

/// Broken: the first carrier is kept.
fn kept(ctx: &Ctx<'_>, wrong: fn(&Seen) -> &AtomicU64, what: &str) {
    let (seen, _) = all_hop(ctx, Way::Kept);
    let (wrong, operations) = (wrong(&seen).load(Relaxed), seen.operations.load(Relaxed));
    assert!(wrong > 0, "never on another {what} in {operations} times");
    passed!("seen: {wrong} of {operations} on another {what}");
}

/// It is another thread by now, with rseq or without.
fn kept_carrier(ctx: &Ctx<'_>) {
    kept(ctx, |seen| &seen.another_carrier, "thread");
}

/// Its area shows the CPU of that one.
fn kept_area(ctx: &Ctx<'_>) {
    kept(ctx, |seen| &seen.another_cpu, "CPU");
}

/// Adds on the carrier in `slot`, until both have begun and then `count` times.
fn add_on<Q: RunQueue>(
    runtime: &Runtime<Q>,
    slot: usize,
    kept: usize,
    begun: &Arc<AtomicU64>,
    counter: &'static Counter<'static>,
    count: u64,
) -> Handle {
    let begun = Arc::clone(begun);
    let body = move || {
        move_to(slot);
        begun.fetch_add(1, Relaxed);
        while begun.load(Relaxed) < 2 {
            core::hint::spin_loop();
        }
        let kept = core::ptr::with_exposed_provenance::<Carrier>(kept);
        for _ in 0..count {
            // SAFETY: a live carrier. `current` (1) is violated for the green thread that is on another one.
            counter.add(unsafe { RSEQ.current::<CpuId>((*kept).area()) }, 1);
        }
    };
    spawn(runtime, body)
}

/// Broken: two carriers on two CPUs add non-atomically to the slot of one of them.
fn kept_area_loses(ctx: &Ctx<'_>) {
    const COUNT: u64 = 200_000;
    let runtime = runtime::<PercpuQueue>(ctx, 3, 2);
    pin(runtime);
    for round in 1..=200 {
        let carrier = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&carrier);
        let tell = move || {
            move_to(0);
            let here = here_unguarded().expose_provenance();
            told.store(here as u64, Relaxed);
        };
        spawn(runtime, tell).join();
        let kept = carrier.load(Relaxed) as usize;
        let (begun, counter) = (Arc::new(AtomicU64::new(0)), counter());
        let own = add_on(runtime, 0, kept, &begun, counter, COUNT);
        let others = add_on(runtime, 1, kept, &begun, counter, COUNT);
        own.join();
        others.join();
        let lost = 2 * COUNT - counter.sum() as u64;
        if lost > 0 {
            runtime.stop();
            passed!("seen: {lost} of {} lost in round {round}", 2 * COUNT);
            return;
        }
    }
    panic!("a kept area lost nothing");
}

/// A green thread must not switch under `here`, since its carrier would change.
fn switch_under_a_loan(ctx: &Ctx<'_>) {
    let ctx = *ctx;
    let ended = child::forked(move || {
        let runtime = runtime::<PercpuQueue>(&ctx, 1, 1);
        // It keeps a carrier across a switch, and is stopped.
        spawn(runtime, || carrier::here(|_| yield_now())).join();
    });
    assert_eq!(ended, Ok(Status::Exited(121)), "the program");
}
