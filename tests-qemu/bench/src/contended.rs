//! One counter, one pool, and 1, 2, 4, 8 threads at it, spread over the CPUs.

use std::mem::offset_of;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Barrier, Mutex};
use std::thread;

use crossbeam_queue::ArrayQueue;
use rseq_rt::percpu::{Commit, CpuId, Miss};
use rseq_rt::structures::{Counter, CounterSlot, FreeList, ListSlot, Node};

use crate::here::{self, RSEQ};
use crate::measure::{cpus, pin, tell, tell_in, time};
use crate::plain::{self, Slot};
use crate::structures;

const WORD: usize = offset_of!(Slot, word);

/// Operations between two looks at the clock's flag.
const CHUNK: u64 = 512;

/// Measures.
pub fn run() {
    here::init();
    for threads in [1, 2, 4, 8] {
        adds(threads);
        pools(threads);
    }
}

/// What `threads` threads, the n-th pinned to the n-th CPU in turn, spend on one turn of `body`: CPU time of
/// all, divided by the turns of all. `None` if the body says that it cannot run here.
fn spent<C>(
    threads: usize,
    prepare: impl Fn() -> Option<C> + Sync,
    turn: impl Fn(&mut C) + Sync,
) -> Option<(f64, u64, Vec<C>)>
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
    Some((nanoseconds as f64 / turns.max(1) as f64, turns, contexts))
}

/// The calling thread's, in nanoseconds.
fn cpu_time() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a place to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

fn adds(threads: usize) {
    let name = format!("add, threads: {threads}");
    let tell = |variant: &str, spent: Option<(f64, u64, Vec<()>)>, what: &str| {
        if let Some((value, ..)) = spent {
            tell(&name, variant, value, what);
        }
    };
    thread_local! {
        static OWN: AtomicUsize = const { AtomicUsize::new(0) };
    }
    let ready = || Some(());
    let value = spent(threads, ready, |()| OWN.with(plain::add));
    let what = "a plain add to a thread-local word; here and below: CPU time of all threads for one operation";
    tell("plain", value, what);
    let shared = &Slot::for_each_cpu()[0].word;
    tell(
        "shared atomic",
        spent(threads, ready, |()| plain::atomic_add(shared)),
        "a locked add to one word that all share",
    );

    let storage = Slot::for_each_cpu();
    let value = spent(threads, ready, |()| {
        // SAFETY: no argument, no memory.
        let cpu = unsafe { libc::sched_getcpu() };
        if let Some(slot) = storage.get(cpu as usize) {
            plain::atomic_add(&slot.word);
        }
    });
    let what =
        "sched_getcpu(3) (glibc without rseq: the vDSO), then a locked add to that CPU's line";
    tell("per-CPU atomic, getcpu", value, what);
    let value = spent(threads, ready, |()| {
        let cpu = RSEQ.current_cpu(here::area()).unwrap_or_default();
        if let Some(slot) = storage.get(cpu as usize) {
            plain::atomic_add(&slot.word);
        }
    });
    let what = "Process::current_cpu, then a locked add to that CPU's line";
    tell("per-CPU atomic, rseq", value, what);
    let counter: Counter<'static> = Counter::over(structures::storage(CounterSlot::new));
    let rseq = || here::current::<CpuId>().map(|_| ());
    let value = spent(threads, rseq, |()| counter.add(here::current::<CpuId>(), 1));
    let what = "rseq_rt::structures::Counter, the Current fetched each time";
    tell("Counter", value, what);
    sections(threads, &name);
}

/// One try each, so that the aborts are seen.
fn sections(threads: usize, name: &str) {
    let slots = plain::slots::<CpuId>(Slot::for_each_cpu());
    let prepare = || here::current::<CpuId>().map(|_| (0, 0));
    let turn = |counts: &mut (u64, u64)| {
        let Some(current) = here::current::<CpuId>() else {
            return;
        };
        loop {
            // SAFETY: add (1) WORD, (2) any value.
            match unsafe { current.restarts(0).add(slots, WORD, 1, Commit::Relaxed) } {
                Err(Miss::Aborted) => counts.0 += 1,
                end => {
                    counts.1 += u64::from(end.is_ok());
                    return;
                }
            }
        }
    };
    let Some((value, turns, counts)) = spent(threads, prepare, turn) else {
        return eprintln!("bench: threads may run no section here");
    };
    let added: u64 = counts.iter().map(|(_, added)| added).sum();
    let sum: usize = slots.iter().map(|slot| slot.word.load(Relaxed)).sum();
    assert!(
        added == turns && sum as u64 == turns,
        "{turns} additions made {sum}"
    );
    let what =
        "the critical section, the Current fetched each time, aborts counted and tried again";
    tell(name, "per-CPU", value, what);
    let aborts: u64 = counts.iter().map(|(aborts, _)| aborts).sum();
    let rate = aborts as f64 * 1e6 / (turns + aborts) as f64;
    let what = "sections that the kernel aborted, of a million begun, in the per-CPU row of that many threads";
    tell_in(
        "aborts per million",
        &format!("aborts, threads: {threads}"),
        "per-CPU",
        rate,
        what,
    );
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
    if let Some((value, ..)) = value {
        let what = "a Vec in a std::sync::Mutex, locked for each of the two";
        tell(&name, "mutex", value, what);
    }
    let queue = ArrayQueue::new(2 * threads);
    (0..2 * threads).for_each(|item| _ = queue.push(item));
    let value = spent(threads, ready, |()| {
        if let Some(item) = queue.pop() {
            let _ = queue.push(item);
        }
    });
    if let Some((value, ..)) = value {
        tell(&name, "atomic", value, "crossbeam's ArrayQueue");
    }
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
    if let Some((value, ..)) = value {
        let what = "rseq_rt::structures::FreeList, the Current fetched each time";
        tell(&name, "per-CPU", value, what);
    }
}
