//! The cost of an addition, compared with the usual ways: `cargo bench --package rseq-rt-std`.
//!
//! Each round measures every way once, in an order that rotates from round to round. The table has the medians of all
//! rounds, in nanoseconds of CPU time for each addition, and the ratio to `Counter`. If other programs keep the threads
//! from running at once, there is no contention, and one atomic for all looks as good as one for each thread: the last
//! line shows this.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Instant;

use crossbeam_utils::CachePadded;
use rseq_rt_std::{Counter, support};

const ROUNDS: usize = 15;
const ADDITIONS: u64 = 5_000_000;
const THREADS: [usize; 4] = [1, 2, 4, 8];

static COUNTER: Counter = Counter::new();

/// The number that a program would use on this machine, but at least 8.
static SHARDS: [CachePadded<AtomicU64>; 64] = [const { CachePadded::new(AtomicU64::new(0)) }; 64];
static COUNT: AtomicUsize = AtomicUsize::new(8);
static NEXT: AtomicUsize = AtomicUsize::new(0);

static ONE: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static INDEX: usize = NEXT.fetch_add(1, Relaxed) % COUNT.load(Relaxed);
    static CELL: Cell<u64> = const { Cell::new(0) };
}

fn sharded() {
    INDEX.with(|&index| SHARDS[index].fetch_add(1, Relaxed));
}

fn one_atomic() {
    ONE.fetch_add(1, Relaxed);
}

/// A sum of all threads needs more than this: a place to add to when the thread ends, and there is no sum before.
fn cell() {
    CELL.with(|cell| cell.set(black_box(cell.get() + 1)));
}

/// Its name, and a measurement with a number of threads.
type Way = (&'static str, fn(usize) -> Taken);

const WAYS: [Way; 4] = [
    ("Counter", |threads| measure(threads, || COUNTER.add(1))),
    ("sharded atomics", |threads| measure(threads, sharded)),
    ("one atomic", |threads| measure(threads, one_atomic)),
    ("thread_local Cell", |threads| measure(threads, cell)),
];

/// One measurement.
struct Taken {
    /// Nanoseconds of CPU time for each addition, of all threads.
    each: f64,
    /// The average number of threads that ran at once: below two, nothing is contended.
    at_once: f64,
}

fn measure(threads: usize, add: impl Fn() + Sync) -> Taken {
    let (start, add) = (Barrier::new(threads), &add);
    let one = || {
        add();
        start.wait();
        let (begun, before) = (Instant::now(), cpu_time());
        for _ in 0..ADDITIONS {
            add();
        }
        (cpu_time() - before, begun, Instant::now())
    };
    let all: Vec<(f64, Instant, Instant)> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        let all = all.into_iter().map(|thread| thread.join());
        all.map(|one| one.expect("no addition panics")).collect()
    });
    let spent: f64 = all.iter().map(|(spent, ..)| spent).sum();
    let begun = all.iter().map(|&(_, begun, _)| begun).min();
    let ended = all.iter().map(|&(.., ended)| ended).max();
    let wall = begun
        .zip(ended)
        .map_or(0.0, |(from, to)| (to - from).as_nanos() as f64);
    Taken {
        each: spent / (threads as u64 * ADDITIONS) as f64,
        at_once: spent / wall,
    }
}

/// CPU time of the calling thread in nanoseconds, without that of other programs.
#[cfg(unix)]
fn cpu_time() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes the local value.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

#[cfg(not(unix))]
fn cpu_time() -> f64 {
    use std::sync::OnceLock;
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    BEGUN.get_or_init(Instant::now).elapsed().as_nanos() as f64
}

fn median(of: &mut [f64]) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find(|line| line.starts_with("model name"));
    let name = name.and_then(|line| line.split(": ").nth(1));
    name.unwrap_or("unknown CPU").to_owned()
}

fn main() {
    // `cargo test --benches` runs it too.
    if std::env::args().any(|word| word == "--test") {
        return;
    }
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    COUNT.store(cpus.next_power_of_two().clamp(8, SHARDS.len()), Relaxed);
    println!(
        "{}, {cpus} CPUs, {}; {ROUNDS} rounds",
        cpu_name(),
        support()
    );
    print!("{:<20}", "ns per addition");
    for threads in THREADS {
        print!("{threads:>8} threads");
    }
    println!();
    let mut medians = [[0.0; THREADS.len()]; WAYS.len()];
    let mut at_once = [0.0; THREADS.len()];
    for (column, &threads) in THREADS.iter().enumerate() {
        let mut parallel = Vec::new();
        let mut rounds = [const { Vec::new() }; WAYS.len()];
        for round in 0..ROUNDS {
            for turn in 0..WAYS.len() {
                let way = (round + turn) % WAYS.len();
                let taken = WAYS[way].1(threads);
                rounds[way].push(taken.each);
                parallel.push(taken.at_once);
            }
        }
        at_once[column] = median(&mut parallel);
        for (way, rounds) in rounds.iter_mut().enumerate() {
            medians[way][column] = median(rounds);
        }
    }
    for (way, (name, _)) in WAYS.iter().enumerate() {
        print!("{name:<20}");
        for (column, of_counter) in medians[0].iter().enumerate() {
            let value = medians[way][column];
            print!("{value:>8.2} ({:>4.1}x)", value / of_counter);
        }
        println!();
    }
    print!("{:<20}", "threads at once");
    for at_once in at_once {
        print!("{at_once:>8.2}        ");
    }
    println!();
}
