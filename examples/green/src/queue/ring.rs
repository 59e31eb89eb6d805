//! A bounded FIFO ring for each CPU, on the crate's critical sections: an example of a data structure outside the crate.
//!
//! One word holds the start of the ring and its length, so one comparison in a section checks both. The word may have
//! the same value again after others have pushed and popped, or on another CPU. A push is correct there too, and a pop
//! also compares the value that it takes.

use alloc::boxed::Box;
use core::mem::offset_of;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use rseq_rt::Linux;
use rseq_rt::percpu::{Commit, CpuId, Miss, Operation, Slots};
use rseq_rt::structures::{Fence, Membarrier, ThreadSections};

/// CPUs with a ring.
pub const CPUS: usize = 64;
/// Places in a ring: with the three words before them, a power of two.
const PLACES: usize = 253;
/// Maximum tries where the slot may differ in the section, or where a section may overwrite a closing mark.
const LOOKS: u32 = 16;

/// One CPU's ring.
#[repr(C, align(128))]
struct Slot {
    ends: AtomicUsize,
    closing: AtomicUsize,
    // The ends at the last call of `is_left_behind`.
    seen: AtomicUsize,
    places: [AtomicUsize; PLACES],
}

const ENDS: usize = offset_of!(Slot, ends);

const fn place(at: usize) -> usize {
    offset_of!(Slot, places) + at * size_of::<usize>()
}

/// The start of a ring and its length, as one word.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ends(usize);

/// The mark of a closed ring: no section expects a word with this bit, and none stores one.
const CLOSED: usize = 1 << 63;
/// One more in the ring.
const ONE: usize = 1 << 32;

impl Ends {
    const fn first(self) -> usize {
        self.0 & (ONE - 1)
    }

    const fn count(self) -> usize {
        (self.0 & !CLOSED) / ONE
    }

    const fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    const fn wrapped(at: usize) -> usize {
        if at < PLACES { at } else { at - PLACES }
    }

    /// The place of the `n`th element.
    const fn nth(self, n: usize) -> usize {
        Self::wrapped(self.first() + n)
    }

    /// The same without the first `n`, and open.
    const fn without(self, n: usize) -> Self {
        Self(((self.count() - n) * ONE) | self.nth(n))
    }
}

/// The reason why nothing was pushed or popped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum No {
    /// The ring of this CPU is full, or empty.
    Room,
    /// No ring now: the CPU is beyond the slots, a thief has closed the ring, or sections are aborted.
    Ring,
}

/// The rings. Fence and sections are the real ones except in a test, where sections stop and a fence lies.
pub struct Rings<K: Membarrier = Linux> {
    slots: Slots<'static, CpuId, Slot>,
    fence: Fence<K>,
}

impl<K: Membarrier> Rings<K> {
    /// Empty rings, for the life of the process; `None` if the storage is refused.
    pub fn leak(fence: Fence<K>) -> Option<Self> {
        let slots: Box<[Slot]> = (0..CPUS)
            .map(|_| Slot {
                ends: AtomicUsize::new(0),
                closing: AtomicUsize::new(0),
                seen: AtomicUsize::new(0),
                places: [const { AtomicUsize::new(0) }; PLACES],
            })
            .collect();
        Some(Self {
            slots: Slots::new(Box::leak(slots)).ok()?,
            fence,
        })
    }

    /// Puts a pointer at the end of the ring of the CPU that the thread is on.
    ///
    /// # Errors
    /// [`No`].
    #[inline(always)]
    pub fn push(&self, here: impl ThreadSections<CpuId>, value: usize) -> Result<(), No> {
        for _ in 0..LOOKS {
            let ends = self.look(here)?;
            if ends.count() == PLACES {
                return Err(No::Room);
            }
            let push = Operation::CompareStoreAndStore {
                word: ENDS,
                expect: ends.0,
                second: place(ends.nth(ends.count())),
                value,
                new: ends.0 + ONE,
            };
            // The commit by CPU is relaxed: the next thread to pop here comes after the kernel's own barriers, a thief
            // after its fence.
            // SAFETY: run (1) offsets in a slot, which only `steal` stores to as well, after closing it;
            // (2) `Ends`, and a value that nobody dereferences by it; (3) a place beyond the count has no meaning.
            match unsafe { here.run(self.slots, push, Commit::Relaxed) } {
                Ok(_) => return Ok(()),
                Err(Miss::Differs) => {}
                Err(_) => break,
            }
        }
        Err(No::Ring)
    }

    /// Takes the pointer at the beginning of the ring of the CPU that the thread is on.
    ///
    /// # Errors
    /// [`No`].
    #[inline(always)]
    pub fn pop(&self, here: impl ThreadSections<CpuId>) -> Result<usize, No> {
        for _ in 0..LOOKS {
            let slot = here.index().and_then(|cpu| self.slots.get(cpu));
            let slot = slot.ok_or(No::Ring)?;
            let ends = Ends(slot.ends.load(Relaxed));
            if ends.is_closed() {
                break;
            }
            if ends.count() == 0 {
                return Err(No::Room);
            }
            let first = ends.first();
            let value = slot.places.get(first).map_or(0, |at| at.load(Relaxed));
            let pop = Operation::CompareTwoAndStore {
                word: ENDS,
                expect: ends.0,
                second: place(first),
                expect_second: value,
                new: ends.without(1).0,
            };
            // SAFETY: run (1) as above; (2) `Ends`.
            match unsafe { here.run(self.slots, pop, Commit::Relaxed) } {
                Ok(_) => return Ok(value),
                Err(Miss::Differs) => {}
                Err(_) => break,
            }
        }
        Err(No::Ring)
    }

    #[inline]
    fn look(&self, here: impl ThreadSections<CpuId>) -> Result<Ends, No> {
        let slot = here.index().and_then(|cpu| self.slots.get(cpu));
        let slot = slot.ok_or(No::Ring)?;
        let ends = Ends(slot.ends.load(Relaxed));
        if ends.is_closed() {
            Err(No::Ring)
        } else {
            Ok(ends)
        }
    }

    /// Whether there is nothing to steal from a CPU, as of a moment ago.
    pub fn looks_empty(&self, cpu: usize) -> bool {
        let ends = |slot: &Slot| Ends(slot.ends.load(Relaxed));
        self.slots
            .get(cpu)
            .map(ends)
            .is_none_or(|ends| ends.count() == 0 || ends.is_closed())
    }

    /// Whether a non-empty ring has not moved since the last call. Its CPU is then busy with something else, or has no
    /// carrier. It may have moved by a whole turn; stealing from such a busy carrier does no harm.
    pub fn is_left_behind(&self, cpu: usize) -> bool {
        self.slots.get(cpu).is_some_and(|slot| {
            let ends = Ends(slot.ends.load(Relaxed));
            ends.count() != 0 && !ends.is_closed() && slot.seen.swap(ends.0, Relaxed) == ends.0
        })
    }

    /// Takes the first half of another CPU's ring, rounded up, and gives it to `each`. One system call, rarely more.
    pub fn steal(&self, cpu: usize, each: impl FnMut(usize)) {
        let Some(slot) = self.slots.get(cpu) else {
            return;
        };
        // Two thieves would each take the other's mark for their own.
        if slot.closing.swap(1, Acquire) == 0 {
            if let Some(ends) = self.close(slot, cpu) {
                let half = ends.count().div_ceil(2);
                // The places become free only after they were read.
                (0..half)
                    .filter_map(|n| slot.places.get(ends.nth(n)))
                    .map(|at| at.load(Relaxed))
                    .for_each(each);
                slot.ends.store(ends.without(half).0, Release);
            }
            slot.closing.store(0, Release);
        }
    }

    /// Closes a slot. It belongs to the caller until that stores an open word.
    fn close(&self, slot: &Slot, cpu: usize) -> Option<Ends> {
        for _ in 0..LOOKS {
            slot.ends.fetch_or(CLOSED, AcqRel);
            if self.fence.abort_sections::<CpuId>(cpu).is_err() {
                slot.ends.fetch_and(!CLOSED, Relaxed);
                return None;
            }
            // The mark is gone if a section that had compared before it stored over it. If it is there, none did,
            // and none can any more.
            let ends = Ends(slot.ends.load(Acquire));
            if ends.is_closed() {
                return Some(ends);
            }
        }
        None
    }
}
