//! The operations, one thread on one CPU: plain, in a section, atomic.

use std::mem::offset_of;
use std::ptr;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use rseq_rt::percpu::{Commit, CpuId, Current, Index, MmCid};

use crate::here::{self, RSEQ};
use crate::measure::{each, hidden, tell};
use crate::plain::{self, LENGTH, Node, Slot};

const WORD: usize = offset_of!(Slot, word);
const SECOND: usize = offset_of!(Slot, second);
const POINTER: usize = offset_of!(Slot, pointer);
const BYTES: usize = offset_of!(Slot, bytes);

thread_local! {
    static FLOOR: AtomicUsize = const { AtomicUsize::new(0) };
}

const PLAIN: &str = "the same steps in plain instructions on one thread's own line: the floor";
const SECTION: &str = "the critical section, with a Current at hand, relaxed commit";
const ATOMIC: &str =
    "the same with one locked instruction for the commit, on a line that nobody else uses";

/// Measures.
pub fn run() {
    here::init();
    here::register();
    adds();
    let Some(current) = here::current::<CpuId>() else {
        return eprintln!("bench: this thread may run no section here");
    };
    others(current);
    lists(current);
}

fn adds() {
    let name = "add";
    let slot = &Slot::for_each_cpu()[0];
    let (shared, own) = (hidden(&slot.word), &slot.second);
    tell(
        name,
        "plain",
        each(|| FLOOR.with(plain::add)),
        "a plain, not atomic, add to a thread-local word: the floor",
    );
    let value = each(|| plain::add(hidden(own)));
    let what = "the same to a word behind a pointer that the compiler and the CPU's renaming do not see through";
    tell(name, "plain, by pointer", value, what);
    section_add::<CpuId>("per-CPU", "by cpu_id: ");
    section_add::<MmCid>("per-CPU, mm_cid", "by mm_cid: ");
    let storage = Slot::for_each_cpu();
    let slots = plain::slots::<CpuId>(storage);
    if here::current::<CpuId>().is_some() {
        let value = each(|| {
            let current = here::current::<CpuId>()?;
            // SAFETY: add (1) WORD, (2) any value.
            unsafe { current.add(slots, WORD, 1, Commit::Relaxed) }.ok()
        });
        let what = "the same with the Current fetched through thread-local storage each time";
        tell(name, "per-CPU, fetched", value, what);
    }
    tell(
        name,
        "atomic",
        each(|| plain::atomic_add(shared)),
        "one locked add to a line that nobody else uses",
    );
    let by_libc = each(|| {
        // SAFETY: no argument, no memory.
        let cpu = unsafe { libc::sched_getcpu() };
        storage
            .get(cpu as usize)
            .map(|slot| plain::atomic_add(&slot.word))
    });
    let what =
        "sched_getcpu(3) (glibc without rseq: the vDSO), then a locked add to that CPU's line";
    tell(name, "per-CPU atomic, getcpu", by_libc, what);
    let by_load = each(|| {
        let cpu = RSEQ.current_cpu(here::area()).unwrap_or_default();
        storage
            .get(cpu as usize)
            .map(|slot| plain::atomic_add(&slot.word))
    });
    let what = "Process::current_cpu, then a locked add to that CPU's line";
    tell(name, "per-CPU atomic, rseq", by_load, what);
}

fn section_add<I: Index + 'static>(variant: &str, by: &str) {
    let slots = plain::slots::<I>(Slot::for_each_cpu());
    let Some(current) = here::current::<I>() else {
        return eprintln!("bench: no {variant} here");
    };
    // SAFETY: add (1) WORD, (2) any value.
    let value = each(|| unsafe { current.add(slots, WORD, 1, Commit::Relaxed) });
    tell("add", variant, value, &format!("{by}{SECTION}"));
    if variant == "per-CPU" {
        // SAFETY: as above.
        let value = each(|| unsafe { current.add(slots, WORD, 1, Commit::Release) });
        let what = "the same with a release commit";
        tell("add", "per-CPU, release", value, what);
    }
}

fn others(current: Current<'static, CpuId>) {
    let storage = Slot::for_each_cpu();
    let slots = plain::slots::<CpuId>(storage);
    let slot = hidden(&Slot::for_each_cpu()[0]);
    let order = Commit::Relaxed;
    let row = |name: &str, plain: f64, section: f64, atomic: f64| {
        tell(name, "plain", plain, PLAIN);
        tell(name, "per-CPU", section, SECTION);
        tell(name, "atomic", atomic, ATOMIC);
    };
    // The comparisons expect what they store, so that each turn finds what it expects.
    // SAFETY, for each section here: (1) WORD and SECOND are such words; (2) nobody reads them; (3), (4) as said there.
    row(
        "add_through",
        each(|| plain::add(plain::through(slot))),
        // SAFETY: as above; (3) for_each_cpu stored such a pointer in each.
        each(|| unsafe { current.add_through(slots, POINTER, 0, 1, order) }),
        each(|| plain::atomic_add(plain::through(slot))),
    );
    row(
        "compare_and_store",
        each(|| plain::compare_and_store(&slot.word)),
        // SAFETY: as above.
        each(|| unsafe { current.compare_and_store(slots, WORD, 0, 0, order) }),
        each(|| plain::compare_exchange(&slot.word)),
    );
    let second = || hidden(&slot.second).load(Relaxed) == 0;
    row(
        "compare_two_and_store",
        each(|| second() && plain::compare_and_store(&slot.word)),
        // SAFETY: as above.
        each(|| unsafe { current.compare_two_and_store(slots, WORD, 0, SECOND, 0, 0, order) }),
        each(|| second() && plain::compare_exchange(&slot.word)),
    );
    let store = || hidden(&slot.second).store(1, Relaxed);
    row(
        "compare_store_and_store",
        each(|| {
            store();
            plain::compare_and_store(&slot.word)
        }),
        // SAFETY: as above; (3) nobody relies on it.
        each(|| unsafe { current.compare_store_and_store(slots, WORD, 0, SECOND, 0, 0, order) }),
        each(|| {
            store();
            plain::compare_exchange(&slot.word)
        }),
    );
    let source = [7; LENGTH];
    let from = source.as_ptr();
    row(
        "compare_copy_and_store, 64 bytes",
        each(|| {
            plain::copy(slot, hidden(&source));
            plain::compare_and_store(&slot.word)
        }),
        // SAFETY: as above; (3) LENGTH bytes of the slot; (4) and of the source.
        each(|| unsafe {
            current.compare_copy_and_store(slots, WORD, 0, BYTES, from, LENGTH, 0, order)
        }),
        each(|| {
            plain::copy(slot, hidden(&source));
            plain::compare_exchange(&slot.word)
        }),
    );
}

fn lists(current: Current<'static, CpuId>) {
    let storage = Slot::for_each_cpu();
    let slots = plain::slots::<CpuId>(storage);
    let slot = hidden(&Slot::for_each_cpu()[0]);
    let (mine, theirs) = (Node::leaked(), Node::leaked());
    let name = "compare_link_and_store + pop";
    let what = "push and pop of a list in plain instructions on one thread's own line: the floor";
    let value = each(|| plain::push_pop(&slot.word, hidden(mine)));
    tell(name, "plain", value, what);
    let link = theirs.next.as_ptr();
    let section = each(|| {
        let head = storage.get(current.id())?.word.load(Relaxed);
        let node = theirs.address();
        // SAFETY: (1) WORD; (2), (3) the node is never freed, its link at 0, and popped before it is pushed again.
        unsafe {
            let pushed =
                current.compare_link_and_store(slots, WORD, head, link, node, Commit::Relaxed);
            pushed.ok()?;
            current
                .pop(slots, WORD, ptr::null_mut(), 0, Commit::Relaxed)
                .ok()
        }
    });
    tell(
        name,
        "per-CPU",
        section,
        "two sections: push and pop of the CPU's list",
    );
    let value = each(|| plain::atomic_push_pop(&slot.word, hidden(mine)));
    let what = "two compare-and-exchanges, on a line that nobody else uses, without protection against ABA";
    tell(name, "atomic", value, what);
}
