//! The bounds of a section: the latency of a chain through one word, the throughput over many, and the copy alone. An
//! addition to a fixed word is bounded by neither: a CPU that recognises the register and displacement of the last
//! store forwards the value in zero cycles, and that would be measured.

use std::arch::asm;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use rseq_rt::percpu::{Commit, CpuId, Operation, Slots};
use rseq_rt::structures::{Counter, CounterSlot};

use crate::measure::{SIXTEEN, cycle, each, each_of_sixteen, hidden, tell};
use crate::operations::compares::{Compare, CompareCopy, Line};
use crate::operations::{self, Measured};
use crate::structures::storage;
use crate::{atomic, here, ops, plain, slot};

const ONE_WORD: &str = "add, one word";
const CHAIN: &str = "add, chain";
const THROUGHPUT: &str = "add, throughput";

/// Instructions in the section of `add` in addition to the plain one, from the golden files.
const MORE: usize = if cfg!(target_arch = "x86_64") { 6 } else { 7 };

/// Words on separate cache lines.
#[repr(C)]
struct Lines([OneLine; SIXTEEN]);

#[repr(C, align(64))]
struct OneLine(AtomicUsize);

impl Lines {
    fn new() -> Self {
        Self([const { OneLine(AtomicUsize::new(0)) }; SIXTEEN])
    }

    #[inline(always)]
    fn word(&self, nth: usize) -> &AtomicUsize {
        &self.0[nth].0
    }
}

pub fn run() {
    one_word();
    chain();
    throughput();
    copy();
}

/// The number of a slot, hidden from the compiler, so that the address is computed each time.
#[inline(always)]
fn number() -> usize {
    let mut number = 0;
    // SAFETY: no instructions.
    unsafe { asm!("/* {} */", inout(reg) number, options(nomem, nostack, preserves_flags)) };
    number
}

/// Adds to a word of the current CPU's slot.
macro_rules! add {
    ($current:ident, $slots:ident, $nth:expr) => {{
        let operation = Operation::Add {
            word: $nth * size_of::<OneLine>(),
            value: 1,
        };
        // SAFETY: (1) a word of `Lines`, which only sections store to; (2) a count that nobody reads; (3) nothing.
        unsafe { $current.run($slots, operation, Commit::Relaxed) }.ok()
    }};
}

/// One word, with its address computed anew each time.
fn one_word() {
    let own: Slots<'static, CpuId, Lines> = storage(Lines::new);
    let value = each(|| {
        // SAFETY: add (1) fresh, and otherwise unused.
        own.get(number())
            .map(|slot| unsafe { plain::add(slot.word(0)) })
    });
    let what =
        "a plain add to one word, whose address is computed each time from the number of its slot";
    tell(ONE_WORD, "plain", value, what);
    let Some(current) = here::current::<CpuId>() else {
        return;
    };
    let slots: Slots<'static, CpuId, Lines> = storage(Lines::new);
    let value = each(|| add!(current, slots, 0));
    let what = "the critical section by cpu_id, to one word, with a Current at hand";
    tell(ONE_WORD, "per-CPU", value, what);
    let counter: Counter<'static> = Counter::over(storage(CounterSlot::new));
    let value = each(|| counter.add(Some(current), 1));
    let what = "rseq_rt::structures::Counter, with a Current at hand";
    tell(ONE_WORD, "Counter", value, what);
}

/// Each addition goes to the word that the previous sum selects, so that no CPU can start it earlier.
fn chain() {
    let own = hidden(&*Box::leak(Box::new(Lines::new())));
    let mut nth = 0;
    let value = each(|| {
        let word = own.word(nth);
        // SAFETY: add (1) fresh, and otherwise unused.
        unsafe { plain::add(word) };
        nth = word.load(Relaxed) % SIXTEEN;
    });
    let what =
        "a plain add to one of sixteen words, which the last sum selects, and a load of the sum";
    tell(CHAIN, "plain", value, what);
    let Some(current) = here::current::<CpuId>() else {
        return;
    };
    let slots: Slots<'static, CpuId, Lines> = storage(Lines::new);
    // The thread is pinned.
    let Some(own) = slots.get(current.id()).map(hidden) else {
        return;
    };
    let mut nth = 0;
    let value = each(|| {
        let added = add!(current, slots, nth);
        nth = own.word(nth).load(Relaxed) % SIXTEEN;
        added
    });
    let what = "the critical section by cpu_id to that word, and a load of the sum";
    tell(CHAIN, "per-CPU", value, what);
}

fn throughput() {
    let own = hidden(&*Box::leak(Box::new(Lines::new())));
    // SAFETY: add (1) fresh, and otherwise unused.
    let value = each_of_sixteen!(own => |nth| unsafe { plain::add(own.word(nth)) });
    let what = "a plain add, to sixteen words on lines of their own in turn";
    tell(THROUGHPUT, "plain", value, what);
    let cycle = cycle();
    let what = "an addition of two registers that needs the one before it: a cycle";
    tell("cycle", "addition", cycle, what);
    let what = format!("the plain add and {MORE} cycles: one for each instruction that it lacks");
    let limit = value + MORE as f64 * cycle;
    tell(THROUGHPUT, "plain + cycles", limit, &what);
    let value = each_of_sixteen!(own => |nth| atomic::add(own.word(nth)));
    tell(THROUGHPUT, "atomic", value, "a locked add to each");
    let Some(current) = here::current::<CpuId>() else {
        return;
    };
    let slots: Slots<'static, CpuId, Lines> = storage(Lines::new);
    let value = each_of_sixteen!(current, slots => |nth| add!(current, slots, nth));
    let what = "the critical section by cpu_id, to sixteen words of the slot in turn";
    tell(THROUGHPUT, "per-CPU", value, what);
    let value = each_of_sixteen!(slots => |nth| {
        here::current::<CpuId>().and_then(|current| add!(current, slots, nth))
    });
    let what = "the same with the Current fetched through thread-local storage each time";
    tell(THROUGHPUT, "per-CPU, fetched", value, what);
}

/// The steps of `compare_copy_and_store` separately: a bound for its time.
fn copy() {
    let Some(current) = here::current::<CpuId>() else {
        return;
    };
    let (source, to) = (Line::default(), slot::Slot::new());
    let slots = slot::slots::<CpuId>(ops::storage::<Compare>());
    let compare = Compare;
    let value = each(|| {
        // SAFETY: copy (1) the thread's own.
        unsafe { plain::copy(hidden(&to), hidden(&source.0)) };
        compare
            .section(&operations::Relaxed { current, slots })
            .ok()
    });
    let what = "a plain copy of as many bytes, then the section of compare_and_store";
    tell(CompareCopy::NAME, "copy, then section", value, what);
}
