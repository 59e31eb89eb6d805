//! Stackful fibers that move from thread to thread in the middle of operations.
#![cfg(target_os = "linux")]

mod common;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use common::{allowed_cpus, run_on};
use corosensei::{Coroutine, CoroutineResult, Yielder};
use rseq_rt_std::{Counter, Item, PerCpu, Pool, current_cpu};

const FIBERS: u64 = 32;
const STEPS: u64 = 200;

static COUNT: Counter = Counter::new();
static POOL: Pool<u64> = Pool::new();
static CELLS: PerCpu<Counter> = PerCpu::new(Counter::new);

/// A fiber, resumed with the CPU to which its thread is bound.
struct Fiber(Coroutine<usize, (), bool>);

// SAFETY: nothing on its stack belongs to a thread.
unsafe impl Send for Fiber {}

/// Anything that the compiler keeps of a thread across a switch would belong to another thread.
fn body(switch: &Yielder<usize, ()>, mut cpu: usize) -> bool {
    let mut right = true;
    for _ in 0..STEPS {
        COUNT.add(1);
        right &= current_cpu() == cpu;
        let mut item = POOL.pop().unwrap_or_else(|| Item::new(0));
        cpu = switch.suspend(());
        COUNT.add(1);
        right &= current_cpu() == cpu;
        *item += 1;
        POOL.push(item);
        // A switch inside the closure does no harm.
        CELLS.with(|cell| {
            cpu = switch.suspend(());
            cell.add(1);
        });
    }
    right
}

/// A carrier: resumes the fibers that it receives, and sends them to the next one.
fn carry(cpu: usize, from: &Receiver<Fiber>, to: &Sender<Fiber>, done: &Sender<bool>) {
    run_on(cpu);
    while let Ok(Fiber(mut fiber)) = from.recv() {
        match fiber.resume(cpu) {
            CoroutineResult::Yield(()) => _ = to.send(Fiber(fiber)),
            CoroutineResult::Return(right) => _ = done.send(right),
        }
    }
}

#[test]
fn a_fiber_is_at_home_on_every_thread() {
    const CARRIERS: usize = 3;
    let cpus = allowed_cpus();
    let (done, ends) = channel();
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..CARRIERS).map(|_| channel()).unzip();
    for number in 0..FIBERS {
        let fiber = Fiber(Coroutine::new(body));
        assert!(senders[number as usize % CARRIERS].send(fiber).is_ok());
    }
    // They wait for fibers until the program ends.
    for (number, from) in receivers.into_iter().enumerate() {
        let (to, done) = (senders[(number + 1) % CARRIERS].clone(), done.clone());
        let cpu = cpus[number % cpus.len()];
        thread::spawn(move || carry(cpu, &from, &to, &done));
    }
    for _ in 0..FIBERS {
        assert_eq!(ends.recv(), Ok(true));
    }
    assert_eq!(COUNT.sum(), 2 * STEPS * FIBERS);
    let cells: u64 = CELLS.iter().map(Counter::sum).sum();
    assert_eq!(cells, STEPS * FIBERS);
    let items: u64 = POOL.drain().into_iter().map(Item::into_inner).sum();
    assert_eq!(items, STEPS * FIBERS);
}
