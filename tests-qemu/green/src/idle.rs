//! An idle carrier sleeps. No time is measured: the rounds without work are counted, during a period in which nothing
//! happens and between two sleeps of a green thread.

use alloc::sync::Arc;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;

use guests::harness::{Ctx, Test, passed};
use guests::sys::time::{self, Span};
use rseq_rt::Area;

use super::{runtime, spawn, wait_until};
use green::green::Ready;
use green::queue::{MpmcQueue, MutexQueue, PercpuQueue, RunQueue};
use green::runtime::Runtime;
use green::slots::Count;
use green::switch::sleep;

pub const TESTS: &[Test] = &[
    Test::new("idle/carriers-sleep-percpu", carriers_sleep::<PercpuQueue>),
    Test::new("idle/carriers-sleep-mpmc", carriers_sleep::<MpmcQueue>),
    Test::new("idle/carriers-sleep-mutex", carriers_sleep::<MutexQueue>),
    Test::new("idle/one-round-a-sleep", one_round_a_sleep),
    Test::new("idle/spinning-is-seen", spinning_is_seen),
];

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

/// The rounds of a carrier after its only green thread has announced a sleep: the current one, one for the wake of the
/// spawn, one for that of the sleep, and one if the kernel refuses its barrier. However slow the machine is, there is
/// no other reason for a round.
const ROUNDS: u64 = 4;

/// Carriers that have all been idle, and a green thread in a long sleep. Also returns their rounds so far.
fn with_a_sleeper<Q: RunQueue>(ctx: &Ctx<'_>, carriers: u32) -> (&'static Runtime<Q>, u64) {
    let runtime = runtime::<Q>(ctx, 1, carriers);
    let told = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&told);
    let body = move || {
        tell.store(true, Relaxed);
        sleep(LONG);
    };
    let sleeper = spawn(runtime, body);
    // It is not waited for: its stack stays.
    let _ = sleeper;
    wait_until(|| told.load(Relaxed));
    let before = runtime.sum(Count::Rests);
    // One round each, or as many in total: the live carriers are counted.
    wait_until(|| runtime.sum(Count::Rests) >= u64::from(carriers));
    (runtime, before)
}

fn carriers_sleep<Q: RunQueue>(ctx: &Ctx<'_>) {
    let carriers = (ctx.facts.cpus * 2).min(8);
    let (runtime, before) = with_a_sleeper::<Q>(ctx, carriers);
    time::sleep(Span::millis(100)).unwrap();
    let rounds = runtime.sum(Count::Rests) - before;
    let most = ROUNDS * u64::from(carriers);
    assert!(
        rounds <= most,
        "{carriers} idle carriers made {rounds} rounds, and {most} have a reason"
    );
    runtime.stop();
    passed!("{rounds} rounds of {carriers} carriers");
}

/// A single carrier sleeps exactly until its green thread's deadline, in one piece. It also rests before and after,
/// when the spawn wakes it, and when the kernel refuses its barrier.
fn one_round_a_sleep(ctx: &Ctx<'_>) {
    const SLEEPS: u64 = 20;
    let runtime = runtime::<PercpuQueue>(ctx, 1, 1);
    let body = move || {
        for turn in 0..SLEEPS {
            // A whole number of neither milliseconds nor microseconds.
            sleep(Duration::from_nanos(1_000_001 + turn * 333_333));
        }
    };
    spawn(runtime, body).join();
    runtime.stop();
    let rounds = runtime.sum(Count::Rests);
    let most = SLEEPS + ROUNDS;
    assert!(
        rounds <= most,
        "{rounds} rounds without work for {SLEEPS} sleeps"
    );
    passed!("{rounds} rounds for {SLEEPS} sleeps");
}

/// Broken: it never looks empty, so that an idle carrier retries at once.
struct NeverEmpty(MutexQueue);

impl RunQueue for NeverEmpty {
    const NAME: &'static str = "never-empty";

    fn new(capacity: usize) -> Self {
        Self(MutexQueue::new(capacity))
    }

    unsafe fn push(&self, area: &Area, green: Ready) {
        // SAFETY: push (1) is (1).
        unsafe { self.0.push(area, green) }
    }

    unsafe fn pop(&self, area: &Area) -> Option<Ready> {
        // SAFETY: pop (1) is (1).
        unsafe { self.0.pop(area) }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

/// Spinning carriers exceed the bound eventually. Only the harness limits the time.
fn spinning_is_seen(ctx: &Ctx<'_>) {
    const CARRIERS: u32 = 2;
    let (runtime, before) = with_a_sleeper::<NeverEmpty>(ctx, CARRIERS);
    let rounds = || runtime.sum(Count::Rests) - before;
    wait_until(|| rounds() > ROUNDS * u64::from(CARRIERS));
    let seen = rounds();
    runtime.stop();
    passed!("seen: {seen} rounds");
}
