//! The operations, a counter and a pool, each with 1, 2, 4 and 8 threads spread over the CPUs.

use std::sync::Mutex;

use crossbeam_queue::ArrayQueue;
use rseq_rt::percpu::{CpuId, Miss, Slots};
use rseq_rt::structures::{Counter, CounterSlot, FreeList, ListSlot, Node};

use crate::here;
use crate::measure::{Sink, tell, tell_in};
use crate::operations::{self, Measured, Relaxed, Visit};
use crate::ops::{self, GETCPU};
use crate::slot::{self, Slot};
use crate::structures;
use crate::together::{Spent, spent};

const THREADS: [usize; 4] = [1, 2, 4, 8];

pub fn run() {
    here::init();
    operations::each(&Together);
    for threads in THREADS {
        counters(threads);
        pools(threads);
    }
}

struct Together;

impl Visit for Together {
    fn operation<O: Measured>(&self) {
        for threads in THREADS {
            atomics::<O>(threads);
            sections::<O>(threads);
        }
    }
}

fn show<C>(name: &str, variant: &str, spent: &Option<Spent<C>>, what: &str) {
    if let Some(spent) = spent {
        tell(name, variant, spent.nanoseconds, what);
    }
}

fn name<O: Measured>(threads: usize) -> String {
    format!("{}, threads: {threads}", O::NAME)
}

fn atomics<O: Measured>(threads: usize) {
    let name = name::<O>(threads);
    let floor = || {
        ops::prepare_floor::<O>();
        Some(O::default())
    };
    let value = spent(threads, floor, |operation| {
        // SAFETY: on_floor (1) each thread starts with that.
        unsafe { ops::on_floor(operation) }.sink();
    });
    let what = "the same steps in plain instructions, on each thread's own line";
    show(&name, "plain", &value, what);

    let ready = || Some(O::default());
    let shared = &ops::storage::<O>()[0];
    let value = spent(threads, ready, |operation| {
        // SAFETY: atomic (1, 2) fresh from `storage`, and used by all only like this.
        unsafe { operation.atomic(shared) }.sink();
    });
    let what = format!("{}; on one line that all share", O::ATOMIC);
    show(&name, "shared atomic", &value, &what);

    let storage = ops::storage::<O>();
    let value = spent(threads, ready, |operation| {
        // SAFETY: by_getcpu (1) fresh, and used by all only like this.
        unsafe { ops::by_getcpu(operation, storage) }.sink();
    });
    show(&name, "per-CPU atomic, getcpu", &value, GETCPU);
}

/// A thread that runs sections. It has its own copy of the slots, so that they are in registers.
struct Tries<O> {
    operation: O,
    slots: Slots<'static, CpuId, Slot>,
    done: u64,
    aborts: u64,
}

/// One try each, so that aborts are visible.
fn sections<O: Measured>(threads: usize) {
    let storage = ops::storage::<O>();
    let slots = slot::slots::<CpuId>(storage);
    let prepare = || {
        here::current::<CpuId>().map(|_| Tries {
            operation: O::default(),
            slots,
            done: 0,
            aborts: 0,
        })
    };
    let turn = |tries: &mut Tries<O>| {
        let Some(current) = here::current() else {
            return;
        };
        let (current, slots) = (current.restarts(0), tries.slots);
        loop {
            match tries.operation.section(&Relaxed { current, slots }) {
                Err(Miss::Aborted) => tries.aborts += 1,
                end => {
                    tries.done += u64::from(end.is_ok());
                    return end.sink();
                }
            }
        }
    };
    let Some(spent) = spent(threads, prepare, turn) else {
        return eprintln!("bench: threads may run no section here");
    };
    let done: u64 = spent.contexts.iter().map(|tries| tries.done).sum();
    let seen: Option<usize> = storage.iter().map(O::done).sum();
    assert!(
        done == spent.turns && seen.is_none_or(|seen| seen as u64 == done),
        "{}: {} turns, {done} done, {seen:?} seen",
        O::NAME,
        spent.turns
    );
    let what =
        "the critical section, the Current fetched each time, aborts counted and tried again";
    tell(
        &name::<O>(threads),
        "per-CPU, fetched",
        spent.nanoseconds,
        what,
    );
    let aborts: u64 = spent.contexts.iter().map(|tries| tries.aborts).sum();
    // Possibly no turns in the window, on a busy machine: no number.
    let rate = aborts as f64 * 1e6 / (done + aborts).max(1) as f64;
    let what =
        "sections that the kernel aborted, of a million begun, in the row of that many threads";
    let name = format!("aborts, threads: {threads}");
    tell_in("per million", &name, O::NAME, rate, what);
}

fn counters(threads: usize) {
    let counter: Counter<'static> = Counter::over(structures::storage(CounterSlot::new));
    let rseq = || here::current::<CpuId>().map(|_| ());
    let value = spent(threads, rseq, |()| counter.add(here::current::<CpuId>(), 1));
    let what = "rseq_rt::structures::Counter, the Current fetched each time";
    show(&format!("add, threads: {threads}"), "Counter", &value, what);
}

fn pools(threads: usize) {
    let name = format!("pool pop+push, threads: {threads}");
    let ready = || Some(());
    let mutex = Mutex::new((0..2 * threads).collect::<Vec<_>>());
    let lock = || {
        mutex
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    };
    let value = spent(threads, ready, |()| {
        let Some(item) = lock().pop() else { return };
        lock().push(item);
    });
    let what = "a Vec in a std::sync::Mutex, locked for each of the two";
    show(&name, "mutex", &value, what);
    let queue = ArrayQueue::new(2 * threads);
    (0..2 * threads).for_each(|item| _ = queue.push(item));
    let value = spent(threads, ready, |()| {
        if let Some(item) = queue.pop() {
            let _ = queue.push(item);
        }
    });
    show(&name, "atomic", &value, "crossbeam's ArrayQueue");
    // SAFETY: over (1) fresh slots.
    let list: FreeList<'static, u64> =
        unsafe { FreeList::over(structures::storage(ListSlot::new)) };
    let prepare = || {
        let here = here::current::<CpuId>();
        for _ in 0..2 {
            list.push(here, Box::leak(Box::new(Node::new(0))));
        }
        here.map(|_| ())
    };
    let value = spent(threads, prepare, |()| {
        let here = here::current::<CpuId>();
        if let Ok(node) = list.pop(here) {
            list.push(here, node);
        }
    });
    let what = "rseq_rt::structures::FreeList, the Current fetched each time";
    show(&name, "per-CPU", &value, what);
}
