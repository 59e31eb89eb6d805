//! The tests of the runtime, for the guests' harness: natively, under qemu-user and as PID 1.

pub mod idle;
pub mod life;
pub mod migrate;
pub mod queues;
pub mod steals;

use guests::errno::Errno;
use guests::harness::{Ctx, Failed, failed};
use guests::sys::sched::{self, CpuSet};
use guests::sys::time::{self, Span};
use guests::text;

use crate::carrier::{self, Exit};
use crate::queue::RunQueue;
use crate::runtime::Runtime;

/// A runtime in the test's own process, with `carriers` carriers that all run.
fn runtime<Q: RunQueue>(
    ctx: &Ctx<'_>,
    capacity: usize,
    carriers: u32,
) -> Result<&'static Runtime<Q>, Failed> {
    // SAFETY: adopt_main (1) each test has a process of its own, and this is its main thread.
    if unsafe { carrier::adopt_main(ctx.env) }.is_err() {
        return Err(failed(text!("the create hook of the main thread")));
    }
    let runtime = Runtime::<Q>::leak(capacity);
    for number in 0..carriers {
        // Both ends of a carrier in each test.
        let exit = if number % 2 == 0 {
            Exit::Joinable
        } else {
            Exit::Detached
        };
        runtime.start_carrier(exit)?;
    }
    wait_until(|| runtime.tids().count() == carriers as usize)?;
    Ok(runtime)
}

/// Pins the carriers to the allowed CPUs, one after the other and round again.
fn pin<Q: RunQueue>(runtime: &Runtime<Q>) -> Result<(), Errno> {
    let cpus = sched::allowed()?;
    let count = cpus.count().max(1) as usize;
    for (at, (_, tid)) in runtime.tids().enumerate() {
        let cpu = cpus.iter().nth(at % count).unwrap_or(0);
        sched::allow(tid, &CpuSet::one(cpu))?;
    }
    Ok(())
}

/// Waits for what other threads do. The harness's limit of time is the only one.
fn wait_until(done: impl Fn() -> bool) -> Result<(), Errno> {
    while !done() {
        time::sleep(Span::micros(200)).or_else(|why| match why {
            Errno::INTR => Ok(()),
            why => Err(why),
        })?;
    }
    Ok(())
}
