//! Fork children of a program whose threads are in the middle of operations.
#![cfg(target_os = "linux")]

mod common;

use std::iter;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use common::{LibcThread, allowed_cpus, in_child, run_on};
use rseq_rt_std::{Counter, Item, PerCpu, Pool, Support, current_cpu, support};

static COUNT: Counter = Counter::new();
static POOL: Pool<[u64; 4]> = Pool::new();
static CELLS: PerCpu<Counter> = PerCpu::new(Counter::new);

/// Every operation of the crate, and whether the results are correct.
fn uses_everything() -> bool {
    let mine = Counter::new();
    mine.add(1);
    let cpus = allowed_cpus();
    for &cpu in &cpus {
        run_on(cpu);
        COUNT.add(1);
        mine.add(1);
        CELLS.with(|cell| cell.add(1));
        let mut item = POOL.pop().unwrap_or_else(|| Item::new([0; 4]));
        item[0] += 1;
        POOL.push(item);
        // Even if the parent's threads had closed a slot, the pool takes an item, and gives it back: behind others, where a
        // push that was aborted too often has put it into the overflow.
        POOL.push(Item::new([7; 4]));
        let is_back = iter::from_fn(|| POOL.pop()).any(|item| *item == [7; 4]);
        assert!(is_back, "an item is lost");
        POOL.push(Item::new([0; 4]));
        assert_eq!(current_cpu(), cpu);
    }
    mine.sum() == 1 + cpus.len() as u64
}

/// Forks children that call `body`, while four threads use everything.
fn fork_in_a_storm(body: fn() -> bool) {
    const CHILDREN: usize = 25;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..4 {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Relaxed) {
                    COUNT.add(1);
                    let item = POOL.pop().unwrap_or_else(|| Item::new([0; 4]));
                    POOL.push(item);
                    if number == 0 {
                        POOL.drain().into_iter().for_each(|item| POOL.push(item));
                        // The fork handler meets pools that are made and dropped.
                        let short = Pool::new();
                        short.push(Item::new(String::new()));
                    }
                }
            });
        }
        let children = std::panic::catch_unwind(|| {
            for _ in 0..CHILDREN {
                in_child(body);
                thread::yield_now();
            }
        });
        stop.store(true, Relaxed);
        children.expect("each of them");
    });
}

#[test]
fn a_child_goes_on_with_everything() {
    static HERE: OnceLock<Support> = OnceLock::new();
    HERE.get_or_init(support);
    fork_in_a_storm(|| {
        let same = HERE.get() == Some(&support());
        same && uses_everything() && !POOL.drain().is_empty()
    });
}

#[test]
fn a_child_starts_threads() {
    static HERE: OnceLock<Support> = OnceLock::new();
    HERE.get_or_init(support);
    fork_in_a_storm(|| {
        let same = || HERE.get() == Some(&support());
        let threads = [(); 3].map(|()| LibcThread::start(same));
        let same = threads.map(LibcThread::join);
        let there = LibcThread::start(|| {
            in_child(uses_everything);
            uses_everything()
        });
        same == [true; 3] && there.join() && uses_everything()
    });
}

#[test]
fn a_child_forks_again() {
    in_child(|| {
        COUNT.add(1);
        in_child(|| {
            in_child(uses_everything);
            uses_everything()
        });
        uses_everything()
    });
}

#[test]
fn another_program_is_started() {
    COUNT.add(1);
    for _ in 0..20 {
        let status = std::process::Command::new("/bin/true").status();
        assert!(status.is_ok_and(|status| status.success()));
    }
    COUNT.add(1);
}
