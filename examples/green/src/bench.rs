//! `green bench [--carriers M] [--green N] [--switches K] [--repeats R]`: the cost of a switch over each run queue.
//!
//! One JSON object per line: `{"name": "green/QUEUE/CARRIERS", "ns": TIME, "cpu_ns": TIME}`. The time is one carrier's
//! for one round: out of the green thread, into the queue, the next one out of the queue, into that one. `ns` is
//! wall-clock time, `cpu_ns` the CPU time of the carriers. The queues take turns; the first turn is not reported.

use alloc::vec::Vec;

use rseq_rt::structures::CpuSet;
use rustix::io::Errno;

use crate::arguments::Arguments;
use crate::carrier::Exit;
use crate::green::Handle;
use crate::queue::{MpmcQueue, MutexQueue, PercpuQueue, RunQueue};
use crate::runtime::Runtime;
use crate::switch::yield_now;
use crate::{println, sys};

/// The parameters of one measurement.
#[derive(Clone, Copy)]
struct Load {
    carriers: u64,
    cpus: u64,
    green: u64,
    switches: u64,
}

/// Runs the command, after [`adopt_main`](crate::carrier::adopt_main).
pub fn main(arguments: Arguments<'_>) -> i32 {
    let asked = |name| arguments.number_of(name);
    let cpus = CpuSet::allowed().map_or(1, |set| u64::from(set.count()));
    let load = |carriers| Load {
        carriers,
        cpus,
        green: asked("--green").unwrap_or(64).clamp(1, 1 << 16),
        switches: asked("--switches").unwrap_or(20_000).clamp(1, 1 << 32),
    };
    let loads: Vec<Load> = match asked("--carriers") {
        Some(carriers) => [load(carriers.clamp(1, 64))].into(),
        None if cpus == 1 => [load(1)].into(),
        None => [load(1), load(cpus.min(64))].into(),
    };
    for load in loads {
        for repeat in 0..=asked("--repeats").unwrap_or(9) {
            let told = repeat != 0;
            let done = run::<PercpuQueue>(load, told)
                .and_then(|()| run::<MpmcQueue>(load, told))
                .and_then(|()| run::<MutexQueue>(load, told));
            if let Err(why) = done {
                println!("green bench: {why}");
                return 2;
            }
        }
    }
    0
}

fn run<Q: RunQueue>(load: Load, told: bool) -> Result<(), Errno> {
    let runtime = Runtime::<Q>::leak(load.green as usize + 1);
    let (begun, begun_running) = (sys::now(), sys::process_time());
    let mut running: Vec<Handle> = Vec::new();
    for _ in 0..load.green {
        // SAFETY: (1) it keeps only a number across its switches.
        let handle = unsafe { runtime.spawn(move || (0..load.switches).for_each(|_| yield_now())) };
        running.push(handle?);
    }
    for _ in 0..load.carriers {
        runtime.start_carrier(Exit::Joinable)?;
    }
    running.into_iter().for_each(Handle::join);
    let elapsed = sys::now().saturating_sub(begun);
    let ran = sys::process_time().saturating_sub(begun_running);
    runtime.stop();
    if told {
        let rounds = load.green.saturating_mul(load.switches) as f64;
        let at_once = load.carriers.min(load.cpus) as f64;
        println!(
            "{{\"name\": \"green/{}/{}\", \"ns\": {:.3}, \"cpu_ns\": {:.3}}}",
            Q::NAME,
            load.carriers,
            elapsed as f64 * at_once / rounds,
            ran as f64 / rounds,
        );
    }
    Ok(())
}
