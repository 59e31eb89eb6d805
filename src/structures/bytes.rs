//! A bounded run of bytes for each CPU.

use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::{AtomicUsize, compiler_fence};

use super::line::Line;
use super::mark;
use super::thread::{MAXIMUM_TRIES, ThreadSections, commit};
use crate::percpu::{CpuId, DrainError, Fence, Index, Membarrier, Miss, Operation, Slots};

/// One CPU's part of a [`Bytes`]: two words, and room for `N` bytes.
///
/// Its size has to be a power of two: `N` is 112, 240, 496, 1008 and so on.
#[repr(C)]
#[derive(Debug)]
pub struct BytesSlot<const N: usize> {
    line: [Line; 0],
    end: AtomicUsize,
    drained: AtomicUsize,
    bytes: UnsafeCell<[u8; N]>,
}

// SAFETY: bytes below `end` are written by nobody, and read by the drain that has the slot; those above belong to
// the one section on that number.
unsafe impl<const N: usize> Sync for BytesSlot<N> {}

impl<const N: usize> Default for BytesSlot<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> BytesSlot<N> {
    /// Empty.
    pub const fn new() -> Self {
        Self {
            line: [],
            end: AtomicUsize::new(0),
            drained: AtomicUsize::new(0),
            bytes: UnsafeCell::new([0; N]),
        }
    }
}

/// Why nothing was stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotPushed {
    /// There is no room for all of it.
    Full,
    /// The overflow slot is being drained.
    Busy,
}

/// Up to `N` bytes for each CPU, for records that are collected later; and as many for all threads that have no slot.
///
/// A push is stored whole or not at all. Where one record ends and the next begins is the caller's to write.
///
/// ```
/// use rseq_rt::structures::{Bytes, BytesSlot, Fence, NotPushed};
///
/// static LOGS: [BytesSlot<1008>; 8] = [const { BytesSlot::new() }; 8]; // one for each possible CPU
/// // SAFETY: `Bytes::new` (1): nothing else uses LOGS.
/// static LOG: Bytes<'static, 1008> = unsafe { Bytes::new(&LOGS) };
///
/// fn log(thread: &rseq_rt::Thread<'_>, line: &[u8]) -> Result<(), NotPushed> {
///     // SAFETY: `Thread::current` (1): used at once.
///     LOG.push(unsafe { thread.current() }, line)
/// }
///
/// let fence = Fence::register(); // once a process
/// for cpu in 0..LOG.slots().count() {
///     let _ = LOG.drain(cpu, &fence, |lines| assert!(lines.is_empty() || lines.ends_with(b"\n")));
/// }
/// ```
#[derive(Debug)]
pub struct Bytes<'a, const N: usize, I: Index = CpuId> {
    slots: Slots<'a, I, BytesSlot<N>>,
    overflow: Reserved<N>,
}

const END: usize = offset_of!(BytesSlot<0>, end);
const BYTES: usize = offset_of!(BytesSlot<0>, bytes);

impl<'a, const N: usize, I: Index> Bytes<'a, N, I> {
    /// An empty buffer, if the slots are.
    ///
    /// # Safety
    /// 1. From now on the slots serve this buffer alone, until each is made anew. A section of another one, by another
    ///    kind of index, would write where a drain reads.
    pub const unsafe fn new<const CPUS: usize>(slots: &'a [BytesSlot<N>; CPUS]) -> Self {
        // SAFETY: over (1) is (1).
        unsafe { Self::over(Slots::of(slots)) }
    }

    /// As [`Self::new`], for storage that was checked at run time.
    ///
    /// # Safety
    /// 1. of [`Self::new`].
    pub const unsafe fn over(slots: Slots<'a, I, BytesSlot<N>>) -> Self {
        Self {
            slots,
            overflow: Reserved::new(),
        }
    }

    /// Its slots.
    pub const fn slots(&self) -> Slots<'a, I, BytesSlot<N>> {
        self.slots
    }

    /// Stores a record behind the others of the calling thread's slot. Async-signal-safe.
    ///
    /// # Errors
    /// [`NotPushed`]; nothing is stored.
    #[inline]
    pub fn push<S: ThreadSections<I>>(&self, here: S, record: &[u8]) -> Result<(), NotPushed> {
        for _ in 0..MAXIMUM_TRIES {
            let Some(slot) = here.index().and_then(|id| self.slots.get(id)) else {
                break;
            };
            let end = slot.end.load(Relaxed);
            if mark::is_set(end) {
                break;
            }
            if record.len() > N.saturating_sub(end) {
                return Err(NotPushed::Full);
            }
            let append = Operation::CompareCopyAndStore {
                word: END,
                expect: end,
                offset: BYTES + end,
                source: record.as_ptr(),
                length: record.len(),
                new: end + record.len(),
            };
            // SAFETY: run (1) END, stored to by `drain` else; (2) an end; (3) as much room as was left at that end, from
            // which on bytes mean nothing, and a slice: bytes of slots are lent by `drain` alone, whose slot is closed.
            match unsafe { here.run(self.slots, append, commit::<I>()) } {
                Ok(_) => return Ok(()),
                Err(Miss::Differs) => {}
                Err(_) => break,
            }
        }
        self.overflow.push(here, record)
    }

    /// Takes all records of one slot, which may be any CPU's, and gives them to `records`; how many bytes.
    /// System calls: 1, rarely more.
    ///
    /// The slot is closed while `records` runs; what is pushed there goes to the overflow slot. If it unwinds, the slot
    /// stays closed.
    ///
    /// # Errors
    /// [`DrainError`]; nothing is taken.
    pub fn drain<K: Membarrier>(
        &self,
        index: usize,
        fence: &Fence<K>,
        records: impl FnOnce(&[u8]),
    ) -> Result<usize, DrainError> {
        let slot = self.slots.get(index).ok_or(DrainError::NoSuchSlot)?;
        let abort = || fence.abort_sections::<I>(index);
        mark::drain(&slot.end, &slot.drained, abort, |end| {
            // SAFETY: closed, so that no section writes here before the drain ends.
            let bytes = unsafe { &*slot.bytes.get() };
            records(bytes.get(..end).unwrap_or(bytes));
        })
    }

    /// Takes all records of the overflow slot and gives them to `records`; how many bytes. No system call. If `records`
    /// unwinds, the overflow slot stays closed.
    ///
    /// # Errors
    /// `Busy`: another drain, or a thread (the one under the calling handler, maybe) that is in the middle of a push.
    pub fn drain_overflow(&self, records: impl FnOnce(&[u8])) -> Result<usize, DrainError> {
        self.overflow.drain(records)
    }

    /// In a fork child: makes the buffer usable again, whatever the parent's other threads were doing in it. No system call.
    ///
    /// Every record of a slot whose push had returned, and that no drain had taken, is still there. The overflow slot is
    /// emptied if a thread was in the middle of a push there: its bytes would be among the others' records. Else it
    /// keeps them too.
    ///
    /// # Safety
    /// 1. The calling thread alone uses the structure until this returns: it is in a fork(2) child, before a second thread.
    /// 2. It is inside no operation and no drain of the structure itself: neither a handler nor a closure beneath one forked.
    pub unsafe fn repair_in_fork_child(&self) {
        for slot in self.slots.iter() {
            mark::reopen(&slot.end, &slot.drained);
        }
        self.overflow.reopen();
    }
}

/// The overflow slot: room is reserved by one atomic, filled, and reported by another.
#[derive(Debug)]
struct Reserved<const N: usize> {
    reserved: AtomicUsize,
    filled: AtomicUsize,
    bytes: UnsafeCell<[u8; N]>,
}

// SAFETY: each byte is written by who reserved it, and read when all that was reserved is filled and nothing more can be.
unsafe impl<const N: usize> Sync for Reserved<N> {}

impl<const N: usize> Reserved<N> {
    const fn new() -> Self {
        Self {
            reserved: AtomicUsize::new(0),
            filled: AtomicUsize::new(0),
            bytes: UnsafeCell::new([0; N]),
        }
    }

    fn push<I: Index, S: ThreadSections<I>>(
        &self,
        here: S,
        record: &[u8],
    ) -> Result<(), NotPushed> {
        let mut seen = self.reserved.load(Relaxed);
        let at = loop {
            if mark::is_set(seen) {
                return Err(NotPushed::Busy);
            }
            if record.len() > N.saturating_sub(seen) {
                return Err(NotPushed::Full);
            }
            here.between();
            // Acquire: what a drain has read was read before it is written anew.
            match self
                .reserved
                .compare_exchange_weak(seen, seen + record.len(), Acquire, Relaxed)
            {
                Ok(at) => break at,
                Err(now) => seen = now,
            }
        };
        here.between();
        let to = self.bytes.get().cast::<u8>().wrapping_add(at);
        // SAFETY: `record.len()` bytes from `at` on were there and are reserved for this call alone.
        unsafe { to.copy_from_nonoverlapping(record.as_ptr(), record.len()) };
        here.between();
        self.filled.fetch_add(record.len(), Release);
        Ok(())
    }

    fn drain(&self, records: impl FnOnce(&[u8])) -> Result<usize, DrainError> {
        let seen = self.reserved.fetch_or(mark::MARK, SeqCst);
        if mark::is_set(seen) {
            return Err(DrainError::Busy);
        }
        // Acquire: what was reported filled is.
        if self.filled.load(Acquire) != seen {
            self.reserved.fetch_and(!mark::MARK, Relaxed);
            return Err(DrainError::Busy);
        }
        // SAFETY: all of it filled, and the mark lets nobody reserve.
        let bytes = unsafe { &*self.bytes.get() };
        // Before `records`, so that a fork child sees whose they are. Nobody else counts there while the mark is set.
        self.filled.store(0, Relaxed);
        compiler_fence(SeqCst);
        records(bytes.get(..seen).unwrap_or(bytes));
        // Release: read before it can be reserved.
        self.reserved.store(0, Release);
        Ok(seen)
    }

    /// In a fork child: ends a drain, and the pushes, of threads that are not there.
    fn reopen(&self) {
        let reserved = self.reserved.load(Relaxed) & !mark::MARK;
        let filled = self.filled.load(Relaxed);
        let end = if filled == reserved { filled } else { 0 };
        self.filled.store(end, Relaxed);
        self.reserved.store(end, Relaxed);
    }
}
