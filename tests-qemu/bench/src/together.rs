//! Several threads on the same data, spread over the CPUs.

use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use crate::here;
use crate::measure::{cpus, pin, time};

/// Operations between two checks of the stop flag.
const CHUNK: u64 = 512;

/// The combined result of the threads.
pub struct Spent<C> {
    /// CPU time of all, in nanoseconds, divided by the turns of all.
    pub nanoseconds: f64,
    pub turns: u64,
    /// The final state of each thread's prepared data.
    pub contexts: Vec<C>,
}

/// Runs `turn` on `threads` threads, the n-th pinned to the n-th CPU, cyclically. `None` if `prepare` reports that a
/// thread cannot run it here.
pub fn spent<C>(
    threads: usize,
    prepare: impl Fn() -> Option<C> + Sync,
    turn: impl Fn(&mut C) + Sync,
) -> Option<Spent<C>>
where
    C: Send,
{
    let cpus = cpus();
    let (stop, barrier) = (AtomicBool::new(false), Barrier::new(threads + 1));
    let one = |n: usize| {
        pin(cpus[n % cpus.len()]);
        here::register();
        let prepared = prepare();
        barrier.wait();
        let mut context = prepared?;
        let (mut turns, before) = (0, cpu_time());
        while !stop.load(Relaxed) {
            for _ in 0..CHUNK {
                turn(&mut context);
            }
            turns += CHUNK;
        }
        Some((turns, cpu_time() - before, context))
    };
    let ended: Vec<_> = thread::scope(|scope| {
        let one = &one;
        let started: Vec<_> = (0..threads).map(|n| scope.spawn(move || one(n))).collect();
        barrier.wait();
        thread::sleep(time());
        stop.store(true, Relaxed);
        started
            .into_iter()
            .map(|thread| thread.join().ok().flatten())
            .collect()
    });
    let (mut turns, mut nanoseconds, mut contexts) = (0, 0, Vec::new());
    for end in ended {
        let (some, time, context) = end?;
        turns += some;
        nanoseconds += time;
        contexts.push(context);
    }
    Some(Spent {
        nanoseconds: nanoseconds as f64 / turns.max(1) as f64,
        turns,
        contexts,
    })
}

/// The calling thread's CPU time, in nanoseconds.
fn cpu_time() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a place to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
