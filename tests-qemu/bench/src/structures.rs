//! The safe structures, one thread on one CPU, compared with the usual alternatives.

use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use crossbeam_queue::ArrayQueue;
use rseq_rt::percpu::{CpuId, Current, Slots};
use rseq_rt::structures::{Buffer, BufferSlot, Counter, CounterSlot, FreeList, ListSlot, Node};

use crate::here;
use crate::measure::{each, hidden, tell};
use crate::{atomic, plain, slot};

/// Storage for each possible CPU.
pub fn storage<T: Sync>(new: impl Fn() -> T) -> Slots<'static, CpuId, T> {
    let slots = (0..slot::possible()).map(|_| new());
    let slots: &'static [T] = Box::leak(slots.collect::<Vec<_>>().into_boxed_slice());
    Slots::new(slots).expect("the slots of the structures are right by their types")
}

pub fn run() {
    here::init();
    here::register();
    if here::current::<CpuId>().is_none() {
        return eprintln!("bench: this thread may run no section here");
    }
    counter();
    list();
    buffer();
}

fn counter() {
    let name = "Counter::add";
    thread_local! {
        static FLOOR: AtomicUsize = const { AtomicUsize::new(0) };
    }
    tell(
        name,
        "plain",
        // SAFETY: add (1) the thread's own.
        each(|| FLOOR.with(|word| unsafe { plain::add(word) })),
        "a plain, not atomic, add to a thread-local word: the floor",
    );
    let counter: Counter<'static> = Counter::over(storage(CounterSlot::new));
    let here = here::current::<CpuId>();
    let what = "rseq_rt::structures::Counter, with a Current at hand";
    tell(name, "per-CPU", each(|| counter.add(here, 1)), what);
    let value = each(|| counter.add(here::current::<CpuId>(), 1));
    let what = "the same with the Current fetched through thread-local storage each time";
    tell(name, "per-CPU, fetched", value, what);
    assert_eq!(
        counter.overflowed(),
        0,
        "a thread that may run sections took the other way"
    );
    let value = each(|| counter.add(None::<Current<'_, CpuId>>, 1));
    let what = "the overflow part, which a thread without rseq uses: a locked add";
    tell(name, "overflow", value, what);
    let word = hidden(&*Box::leak(Box::new(AtomicUsize::new(0))));
    let value = each(|| atomic::add(word));
    tell(
        name,
        "atomic",
        value,
        "one locked add to a line that nobody else uses",
    );
}

fn list() {
    let name = "FreeList push+pop";
    let (head, own) = (AtomicUsize::new(0), slot::Node::leaked());
    let head = hidden(&head);
    let value = each(|| {
        // SAFETY: push (1), pop (1) the thread's own; pop (2) the node is leaked.
        unsafe {
            plain::push(head, hidden(own));
            plain::pop(head)
        }
    });
    tell(
        name,
        "plain",
        value,
        "an intrusive list in plain instructions: the floor",
    );
    // SAFETY: over (1) fresh slots.
    let list: FreeList<'static, u64> = unsafe { FreeList::over(storage(ListSlot::new)) };
    let mut node = Some(Box::leak(Box::new(Node::new(0))));
    let here = here::current::<CpuId>();
    let value = each(|| {
        if let Some(node) = node.take() {
            list.push(here, node);
        }
        node = list.pop(here).ok();
    });
    let what = "rseq_rt::structures::FreeList, with a Current at hand";
    tell(name, "per-CPU", value, what);
    let value = each(|| {
        atomic::push(head, hidden(own));
        // SAFETY: pop (1) the node is leaked.
        unsafe { atomic::pop(head) }
    });
    let what = format!(
        "for each of the two {}; on a line that nobody else uses",
        atomic::TAGGED
    );
    tell(name, "atomic", value, &what);
    let mutex = Mutex::new(Vec::with_capacity(4));
    let value = each(|| {
        lock(&mutex).push(1usize);
        lock(&mutex).pop()
    });
    let what = "a Vec in a std::sync::Mutex that nobody else locks, locked for each of the two";
    tell(name, "mutex", value, what);
}

fn buffer() {
    let name = "Buffer push+pop";
    let value = &*Box::leak(Box::new(7u64));
    let pointer = NonNull::from(value);
    let mut array = Vec::with_capacity(4);
    let plain = each(|| {
        array.push(pointer);
        hidden(&array);
        array.pop()
    });
    tell(
        name,
        "plain",
        plain,
        "push and pop of a Vec with room: the floor",
    );
    let buffer: Buffer<'static, u64, 62> = Buffer::over(storage(BufferSlot::new));
    let here = here::current::<CpuId>();
    let value = each(|| {
        let _ = buffer.push(here, pointer);
        buffer.pop(here)
    });
    let what = "rseq_rt::structures::Buffer of 62, with a Current at hand";
    tell(name, "per-CPU", value, what);
    let queue = ArrayQueue::new(62);
    let value = each(|| {
        let _ = queue.push(1usize);
        queue.pop()
    });
    tell(
        name,
        "atomic",
        value,
        "crossbeam's ArrayQueue of 62, otherwise unused",
    );
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
