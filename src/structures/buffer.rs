//! A bounded array of pointers for each CPU.

use core::marker::PhantomData;
use core::mem::{offset_of, size_of};
use core::ptr::{NonNull, with_exposed_provenance_mut};
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

use super::line::Line;
use super::mark;
use super::overflow::PopError;
use super::thread::{MAXIMUM_TRIES, ThreadSections, commit};
use crate::percpu::{CpuId, DrainError, Fence, Index, Membarrier, Miss, Operation, Slots};

/// One CPU's part of a [`Buffer`]: two words, and room for `N` pointers.
///
/// Its size has to be a power of two: `N` is 14, 30, 62, 126 and so on.
#[repr(C)]
#[derive(Debug)]
pub struct BufferSlot<const N: usize> {
    line: [Line; 0],
    count: AtomicUsize,
    drained: AtomicUsize,
    items: [AtomicUsize; N],
}

impl<const N: usize> Default for BufferSlot<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> BufferSlot<N> {
    /// Empty.
    pub const fn new() -> Self {
        Self {
            line: [],
            count: AtomicUsize::new(0),
            drained: AtomicUsize::new(0),
            items: [const { AtomicUsize::new(0) }; N],
        }
    }
}

/// There is no room. Holds the pointer that was not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full<T>(pub NonNull<T>);

/// Up to `N` pointers for each CPU, last in, first out; and as many for all threads that have no slot.
///
/// Storing a pointer promises nothing about what it points to: that is between who pushes and who pops.
///
/// ```
/// use core::ptr::NonNull;
/// use rseq_rt::structures::{Buffer, BufferSlot, Full};
///
/// static CACHES: [BufferSlot<14>; 8] = [const { BufferSlot::new() }; 8]; // one for each possible CPU
/// static CACHE: Buffer<'static, u64, 14> = Buffer::new(&CACHES);
///
/// fn give_back(thread: &rseq_rt::Thread<'_>, object: NonNull<u64>) -> Result<(), NonNull<u64>> {
///     // SAFETY: `Thread::current` (1): used at once.
///     CACHE.push(unsafe { thread.current() }, object).map_err(|Full(object)| object)
/// }
/// ```
#[derive(Debug)]
pub struct Buffer<'a, T, const N: usize, I: Index = CpuId> {
    slots: Slots<'a, I, BufferSlot<N>>,
    overflow: Cells<N>,
    pointers: PhantomData<fn(NonNull<T>) -> NonNull<T>>,
}

// SAFETY: pointers to T move between threads; the buffer itself is atomics.
unsafe impl<T: Send, const N: usize, I: Index> Sync for Buffer<'_, T, N, I> {}
// SAFETY: as above.
unsafe impl<T: Send, const N: usize, I: Index> Send for Buffer<'_, T, N, I> {}

impl<'a, T, const N: usize, I: Index> Buffer<'a, T, N, I> {
    /// An empty buffer, if the slots are. The slots serve this buffer alone.
    pub const fn new<const CPUS: usize>(slots: &'a [BufferSlot<N>; CPUS]) -> Self {
        Self::over(Slots::of(slots))
    }

    /// As [`Self::new`], for storage that was checked at run time.
    pub const fn over(slots: Slots<'a, I, BufferSlot<N>>) -> Self {
        Self {
            slots,
            overflow: Cells::new(),
            pointers: PhantomData,
        }
    }

    /// Its slots.
    pub const fn slots(&self) -> Slots<'a, I, BufferSlot<N>> {
        self.slots
    }

    /// Stores a pointer in the slot of the calling thread. Async-signal-safe.
    ///
    /// # Errors
    /// [`Full`], with the pointer.
    #[inline]
    pub fn push<S: ThreadSections<I>>(&self, here: S, pointer: NonNull<T>) -> Result<(), Full<T>> {
        let value = pointer.as_ptr().expose_provenance();
        for _ in 0..MAXIMUM_TRIES {
            let Some((_, count)) = self.look(here) else {
                break;
            };
            if count >= N {
                return Err(Full(pointer));
            }
            let push = Operation::CompareStoreAndStore {
                word: COUNT,
                expect: count,
                second: item(count),
                value,
                new: count + 1,
            };
            // SAFETY: run (1) COUNT, and an item below N, stored to by `drain` else; (2) a count, and
            // a pointer; (3) items at the count or above it mean nothing.
            match unsafe { here.run(self.slots, push, commit::<I>()) } {
                Ok(_) => return Ok(()),
                Err(Miss::Differs) => {}
                Err(_) => break,
            }
        }
        self.overflow.push(here, value).map_err(|()| Full(pointer))
    }

    /// The pointer that was last stored in the slot of the calling thread, or else one of the overflow slot.
    /// Async-signal-safe.
    ///
    /// # Errors
    /// [`PopError`]. Other CPUs' slots are reached by [`Self::drain`] alone.
    #[inline]
    pub fn pop<S: ThreadSections<I>>(&self, here: S) -> Result<NonNull<T>, PopError> {
        let missed = match self.pop_slot(here) {
            Ok(value) => return pointer(value).ok_or(PopError::Busy),
            Err(missed) => missed,
        };
        let value = self.overflow.pop(here).ok_or(missed)?;
        pointer(value).ok_or(PopError::Busy)
    }

    #[inline]
    fn pop_slot<S: ThreadSections<I>>(&self, here: S) -> Result<usize, PopError> {
        for _ in 0..MAXIMUM_TRIES {
            let slot = here.index().and_then(|id| self.slots.get(id));
            let slot = slot.ok_or(PopError::Empty)?;
            let count = slot.count.load(Relaxed);
            if mark::is_set(count) {
                break;
            }
            let last = count.checked_sub(1).ok_or(PopError::Empty)?;
            let value = slot.items.get(last).map_or(0, |item| item.load(Relaxed));
            // The count alone would not do: it may be the same again, with another item below it.
            let pop = Operation::CompareTwoAndStore {
                word: COUNT,
                expect: count,
                second: item(last),
                expect_second: value,
                new: last,
            };
            // SAFETY: run (1) COUNT, and an item below N, stored to by `drain` else; (2) a count.
            match unsafe { here.run(self.slots, pop, commit::<I>()) } {
                Ok(_) => return Ok(value),
                Err(Miss::Differs) => {}
                Err(Miss::OutOfRange) => return Err(PopError::Empty),
                Err(Miss::Aborted) => break,
            }
        }
        Err(PopError::Busy)
    }

    /// Takes all pointers of one slot, which may be any CPU's, and gives them to `each`, last stored first; how many.
    /// System calls: 1, rarely more.
    ///
    /// The slot is closed while `each` runs; what is pushed there goes to the overflow slot. A full overflow slot
    /// refuses it: so `each` must have another place for what it cannot push back. If it unwinds, the slot stays closed.
    ///
    /// # Errors
    /// [`DrainError`]; nothing is taken.
    pub fn drain<K: Membarrier>(
        &self,
        index: usize,
        fence: &Fence<K>,
        mut each: impl FnMut(NonNull<T>),
    ) -> Result<usize, DrainError> {
        let slot = self.slots.get(index).ok_or(DrainError::NoSuchSlot)?;
        let abort = || fence.abort_sections::<I>(index);
        mark::drain(&slot.count, &slot.drained, abort, |count| {
            for item in slot.items.iter().take(count).rev() {
                pointer(item.load(Relaxed)).into_iter().for_each(&mut each);
            }
        })
    }

    /// Takes what is in the overflow slot, and what comes while it does, and gives it to `each`; how many. No system call.
    ///
    /// If `each` pushes to this buffer from a thread without a slot, it gets the same pointer again, for ever.
    pub fn drain_overflow<S: ThreadSections<I>>(
        &self,
        here: S,
        mut each: impl FnMut(NonNull<T>),
    ) -> usize {
        let mut count = 0;
        while let Some(value) = self.overflow.pop(here) {
            count += 1;
            pointer(value).into_iter().for_each(&mut each);
        }
        count
    }

    /// In a fork child: makes the buffer usable again, whatever the parent's other threads were doing in it. No system call.
    ///
    /// Every pointer whose push had returned, and that no pop and no drain had taken, is still there. Lost are those that a
    /// drain had taken and not yet given to its closure.
    ///
    /// # Safety
    /// 1. The calling thread alone uses the structure until this returns: it is in a fork(2) child, before a second thread.
    /// 2. It is inside no operation and no drain of the structure itself: neither a handler nor a closure beneath one forked.
    pub unsafe fn repair_in_fork_child(&self) {
        for slot in self.slots.iter() {
            mark::reopen(&slot.count, &slot.drained);
        }
        self.overflow.recount();
    }

    /// The thread's slot and its count at the moment, unless a drain has it.
    #[inline]
    fn look<S: ThreadSections<I>>(&self, here: S) -> Option<(&'a BufferSlot<N>, usize)> {
        let slot = self.slots.get(here.index()?)?;
        let count = slot.count.load(Relaxed);
        (!mark::is_set(count)).then_some((slot, count))
    }
}

const COUNT: usize = offset_of!(BufferSlot<0>, count);
const ITEMS: usize = offset_of!(BufferSlot<0>, items);

/// Where an item is in a slot.
#[inline]
const fn item(at: usize) -> usize {
    ITEMS + at * size_of::<AtomicUsize>()
}

fn pointer<T>(value: usize) -> Option<NonNull<T>> {
    NonNull::new(with_exposed_provenance_mut(value))
}

/// The overflow slot: cells that hold a pointer or 0, in no order. Lock-free, and taking a pointer by its
/// value has no ABA.
#[derive(Debug)]
struct Cells<const N: usize> {
    /// How many are full, or about to be.
    full: AtomicUsize,
    cells: [AtomicUsize; N],
}

impl<const N: usize> Cells<N> {
    const fn new() -> Self {
        Self {
            full: AtomicUsize::new(0),
            cells: [const { AtomicUsize::new(0) }; N],
        }
    }

    fn push<I: Index, S: ThreadSections<I>>(&self, here: S, value: usize) -> Result<(), ()> {
        // Before the cell, so that who finds the number 0 has missed nobody who was through.
        self.full.fetch_add(1, SeqCst);
        here.between();
        for cell in &self.cells {
            if cell.compare_exchange(0, value, Release, Relaxed).is_ok() {
                return Ok(());
            }
            here.between();
        }
        self.full.fetch_sub(1, SeqCst);
        Err(())
    }

    /// In a fork child: a push or a pop whose thread is not there counts no more.
    fn recount(&self) {
        let is_full = |cell: &&AtomicUsize| cell.load(Relaxed) != 0;
        let full = self.cells.iter().filter(is_full).count();
        self.full.store(full, Relaxed);
    }

    fn pop<I: Index, S: ThreadSections<I>>(&self, here: S) -> Option<usize> {
        if self.full.load(SeqCst) == 0 {
            return None;
        }
        for cell in &self.cells {
            here.between();
            let value = cell.load(Relaxed);
            if value != 0 && cell.compare_exchange(value, 0, Acquire, Relaxed).is_ok() {
                self.full.fetch_sub(1, SeqCst);
                return Some(value);
            }
        }
        None
    }
}
