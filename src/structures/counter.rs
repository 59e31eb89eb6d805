//! A sum in as many parts as there are CPUs.

use core::mem::offset_of;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

use super::line::Line;
use super::thread::ThreadSections;
use crate::percpu::{Commit, CpuId, Index, Operation, Slots};

/// One part of a [`Counter`].
#[repr(C)]
#[derive(Debug, Default)]
pub struct CounterSlot {
    line: [Line; 0],
    value: AtomicUsize,
}

impl CounterSlot {
    /// Zero.
    pub const fn new() -> Self {
        Self {
            line: [],
            value: AtomicUsize::new(0),
        }
    }
}

const VALUE: usize = offset_of!(CounterSlot, value);

/// A counter whose additions are plain ones: to the part of the thread's CPU, or to the overflow part.
///
/// Words are 64 bits and wrap, so that subtracting is adding the complement; the parts wrap
/// each for itself, and the sum is right all the same. A fork child needs no repair: an addition is made or not.
///
/// ```
/// use rseq_rt::structures::{Counter, CounterSlot};
///
/// static PARTS: [CounterSlot; 8] = [const { CounterSlot::new() }; 8]; // one for each possible CPU
/// static REQUESTS: Counter<'static> = Counter::new(&PARTS);
///
/// fn request(thread: &rseq_rt::Thread<'_>) {
///     // SAFETY: `Thread::current` (1): used at once.
///     REQUESTS.add(unsafe { thread.current() }, 1);
/// }
/// assert_eq!(REQUESTS.sum(), 0);
/// ```
#[derive(Debug)]
pub struct Counter<'a, I: Index = CpuId> {
    slots: Slots<'a, I, CounterSlot>,
    overflow: CounterSlot,
}

impl<'a, I: Index> Counter<'a, I> {
    /// Zero, if the slots are.
    pub const fn new<const N: usize>(slots: &'a [CounterSlot; N]) -> Self {
        Self::over(Slots::of(slots))
    }

    /// As [`Self::new`], for storage that was checked at run time. The slots serve this counter alone.
    pub const fn over(slots: Slots<'a, I, CounterSlot>) -> Self {
        Self {
            slots,
            overflow: CounterSlot::new(),
        }
    }

    /// Adds, wrapping. Async-signal-safe.
    #[inline]
    pub fn add<S: ThreadSections<I>>(&self, here: S, value: usize) {
        let add = Operation::Add { word: VALUE, value };
        // SAFETY: run (1) VALUE; (2) any value. Relaxed: a sum carries nothing with it.
        if unsafe { here.run(self.slots, add, Commit::Relaxed) }.is_err() {
            self.overflow(value);
        }
    }

    /// Subtracts, wrapping. Async-signal-safe.
    #[inline]
    pub fn sub<S: ThreadSections<I>>(&self, here: S, value: usize) {
        self.add(here, value.wrapping_neg());
    }

    /// The sum of all parts, wrapping. Exact if nobody adds meanwhile; else what it was at no single moment.
    pub fn sum(&self) -> usize {
        let parts = self.slots.iter().chain([&self.overflow]);
        parts.fold(0, |sum, part| sum.wrapping_add(part.value.load(Relaxed)))
    }

    /// The part of the sum that was added to the overflow part.
    pub fn overflowed(&self) -> usize {
        self.overflow.value.load(Relaxed)
    }

    #[cold]
    fn overflow(&self, value: usize) {
        self.overflow.value.fetch_add(value, Relaxed);
    }
}
