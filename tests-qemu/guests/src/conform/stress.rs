//! Non-atomic additions to per-CPU words, by threads that are moved, preempted and signalled.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use super::Check;
use super::aborts::under_signals;
use super::ids::{STACK, registered};
use super::repeat::each_length;
use super::section::{ABORTED, SLOT, add_one};
use super::system::System;
use crate::harness::passed;
use crate::sys::mm::{self, Access};
use crate::sys::sched::{self, CpuSet};
use crate::sys::time::{self, Span};
use crate::thread;

#[rustfmt::skip] // a table
pub(super) const CHECKS: &[Check] = &[
    Check::dangerous("stress/sums", "a commit takes place on the CPU that the section has read, with no other section in between: per-CPU sums are exact", sums),
];

const THREADS: usize = 5;
const TIME: Span = Span::secs(2);
/// Iterations between load and store.
const TURNS: usize = 300;

static OVER: AtomicBool = AtomicBool::new(false);
static ADDED: AtomicUsize = AtomicUsize::new(0);
static ABORTS: AtomicUsize = AtomicUsize::new(0);

#[derive(Clone, Copy)]
struct Job {
    slots: usize,
    length: u32,
}

fn adds(job: &Job) {
    let area = registered(job.length);
    let slots = core::ptr::with_exposed_provenance_mut(job.slots);
    let (cpu, numbers) = (area.cpu_id.load(Relaxed), sched::numbers().unwrap());
    assert!((cpu as usize) < numbers, "cpu_id reads {cpu}");
    let timer = under_signals();
    let (mut added, mut aborts) = (0, 0);
    while !OVER.load(Relaxed) {
        // SAFETY: (1) the slots of `sums`.
        if unsafe { add_one(area, slots, TURNS) } == ABORTED {
            aborts += 1;
        } else {
            added += 1;
        }
    }
    drop(timer);
    ADDED.fetch_add(added, Relaxed);
    ABORTS.fetch_add(aborts, Relaxed);
}

fn sums(system: &System<'_>) {
    each_length(system, |length| {
        let numbers = sched::numbers().unwrap();
        let size = mm::whole_pages(numbers * SLOT);
        let slots = mm::map(size, Access::ReadWrite).unwrap();
        let job = Job {
            slots: slots.expose_provenance(),
            length,
        };
        let threads: [_; THREADS] =
            core::array::from_fn(|_| thread::start(STACK, job, adds).unwrap());
        let end = time::now().0 + TIME.0;
        let mut moves = 0;
        while time::now().0 < end {
            for (nth, thread) in threads.iter().enumerate() {
                let cpu = (moves + nth) % system.cpus.count() as usize;
                let cpu = system.cpus.iter().nth(cpu).unwrap();
                let _ = sched::allow(thread.tid(), &CpuSet::one(cpu));
            }
            moves += 1;
            let _ = time::sleep(Span::micros(500));
        }
        OVER.store(true, Relaxed);
        for thread in threads {
            thread.join().unwrap();
        }
        // SAFETY: one word for each CPU number, and no thread writes any more.
        let kept = |nth: usize| unsafe { slots.add(nth * SLOT).cast::<usize>().read() };
        let sum: usize = (0..numbers).map(kept).sum();
        let added = ADDED.load(Relaxed);
        agree!(sum, added, "the sum, and what was added, length {length}");
        passed!("{added} additions, {} aborts", ABORTS.load(Relaxed));
    });
}
