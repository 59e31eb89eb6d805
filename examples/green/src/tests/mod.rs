//! The tests of the runtime, for the guests' harness: natively, under qemu-user and as PID 1.

mod idle;
mod life;
mod migrate;
mod queues;
mod steals;

use guests::errno::Errno;
use guests::harness::{Ctx, Test};
use guests::sys::sched::{self, CpuSet};
use guests::sys::time::{self, Span};

use crate::carrier::{self, Exit};
use crate::queue::RunQueue;
use crate::runtime::Runtime;

/// All of them.
pub const SUITES: &[&[Test]] = &[
    queues::TESTS,
    steals::TESTS,
    life::TESTS,
    idle::TESTS,
    migrate::TESTS,
];

/// A runtime in the test's own process, with `carriers` carriers that all run.
fn runtime<Q: RunQueue>(ctx: &Ctx<'_>, capacity: usize, carriers: u32) -> &'static Runtime<Q> {
    // SAFETY: adopt_main (1) each test has a process of its own, and this is its main thread.
    let _ = unsafe { carrier::adopt_main(ctx.env) }.unwrap();
    let runtime = Runtime::<Q>::leak(capacity);
    for number in 0..carriers {
        // Both ends of a carrier in each test.
        let exit = if number % 2 == 0 {
            Exit::Joinable
        } else {
            Exit::Detached
        };
        runtime.start_carrier(exit).unwrap();
    }
    wait_until(|| runtime.tids().count() == carriers as usize);
    runtime
}

/// Pins the carriers to the allowed CPUs, one after the other and round again.
fn pin<Q: RunQueue>(runtime: &Runtime<Q>) {
    let cpus = sched::allowed().unwrap();
    let count = cpus.count().max(1) as usize;
    for (at, (_, tid)) in runtime.tids().enumerate() {
        let cpu = cpus.iter().nth(at % count).unwrap();
        sched::allow(tid, &CpuSet::one(cpu)).unwrap();
    }
}

/// Waits for what other threads do. The harness's limit of time is the only one.
fn wait_until(done: impl Fn() -> bool) {
    while !done() {
        match time::sleep(Span::micros(200)) {
            Ok(()) | Err(Errno::INTR) => {}
            Err(why) => panic!("sleep: {why}"),
        }
    }
}
