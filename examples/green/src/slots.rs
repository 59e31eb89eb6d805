//! The slots of carriers: each holds the carrier's counts and the green threads handed to it by name.

use core::ptr;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, fence};

use crate::green::{Green, Ready};

/// The maximum number of carriers of a runtime at a time.
pub const CARRIERS: usize = 64;

/// One carrier's slot. Its counts outlive the carrier.
#[repr(align(128))]
pub struct Slot {
    inbox: AtomicPtr<Green>,
    /// The kernel's id of the carrier.
    pub tid: AtomicU32,
    switches: AtomicU64,
    steals: AtomicU64,
    rests: AtomicU64,
}

/// One of a carrier's counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Count {
    /// Green threads resumed.
    Switches,
    /// Green threads taken from another carrier's queue.
    Steals,
    /// Rounds that found nothing to run, each of which should end in a sleep.
    Rests,
}

impl Slot {
    const fn new() -> Self {
        Self {
            inbox: AtomicPtr::new(ptr::null_mut()),
            tid: AtomicU32::new(0),
            switches: AtomicU64::new(0),
            steals: AtomicU64::new(0),
            rests: AtomicU64::new(0),
        }
    }

    fn counter(&self, count: Count) -> &AtomicU64 {
        match count {
            Count::Switches => &self.switches,
            Count::Steals => &self.steals,
            Count::Rests => &self.rests,
        }
    }

    /// Adds one. Only the carrier in the slot counts, so no read-modify-write is needed.
    #[inline]
    pub fn count(&self, count: Count) {
        let counter = self.counter(count);
        counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Whether a green thread has been handed to this slot.
    #[inline]
    pub fn has_mail(&self) -> bool {
        !self.inbox.load(Relaxed).is_null()
    }

    fn hand(&self, green: Ready) {
        let green = green.into_raw();
        let mut head = self.inbox.load(Relaxed);
        loop {
            // SAFETY: owned by the caller until the exchange.
            unsafe { &*green }.link.store(head, Relaxed);
            match self
                .inbox
                .compare_exchange_weak(head, green, Release, Relaxed)
            {
                Ok(_) => return,
                Err(seen) => head = seen,
            }
        }
    }

    /// Takes the green thread handed over last. Only for the carrier in the slot.
    pub fn pop_mail(&self) -> Option<Ready> {
        let mut head = self.inbox.load(Acquire);
        while !head.is_null() {
            // Nobody else takes, so `head` is in the list while it is on top, and its link stays valid.
            // SAFETY: it is in the list.
            let next = unsafe { &*head }.link.load(Relaxed);
            match self
                .inbox
                .compare_exchange_weak(head, next, Acquire, Acquire)
            {
                // SAFETY: (1) pushed by `hand`, and taken by this exchange.
                Ok(_) => return unsafe { Ready::from_raw(head) },
                Err(seen) => head = seen,
            }
        }
        None
    }

    /// Takes all green threads handed over, the last one first. Only for the carrier in the slot, or where it has none.
    pub fn take_mail(&self, mut each: impl FnMut(Ready)) {
        // All at once: no element can return during an exchange (ABA).
        let mut at = self.inbox.swap(ptr::null_mut(), AcqRel);
        // SAFETY: (1) pushed by `hand`, and taken by this swap alone.
        while let Some(green) = unsafe { Ready::from_raw(at) } {
            // SAFETY: owned by this call.
            at = unsafe { &*at }.link.load(Relaxed);
            each(green);
        }
    }
}

/// The slots of a runtime.
pub struct Slots {
    slots: [Slot; CARRIERS],
    occupied: AtomicU64,
}

impl Slots {
    /// Slots without carriers.
    pub const fn new() -> Self {
        Self {
            slots: [const { Slot::new() }; CARRIERS],
            occupied: AtomicU64::new(0),
        }
    }

    /// Takes a free slot for the calling carrier.
    pub fn enter(&self, tid: u32) -> Option<&Slot> {
        let mut occupied = self.occupied.load(Relaxed);
        loop {
            let free = occupied.trailing_ones();
            let slot = self.slots.get(free as usize)?;
            let with = occupied | 1 << free;
            match self
                .occupied
                .compare_exchange_weak(occupied, with, Acquire, Relaxed)
            {
                Ok(_) => {
                    slot.tid.store(tid, Release);
                    return Some(slot);
                }
                Err(seen) => occupied = seen,
            }
        }
    }

    /// Gives up the calling carrier's slot; green threads handed to it go to `each`.
    pub fn leave(&self, slot: &Slot, each: impl FnMut(Ready)) {
        let number = self.slots.iter().position(|other| ptr::eq(slot, other));
        if let Some(number) = number {
            slot.tid.store(0, Relaxed);
            self.occupied.fetch_and(!(1 << number), SeqCst);
            // Pairs with `hand`: one of the two sees the other's store.
            fence(SeqCst);
            slot.take_mail(each);
        }
    }

    /// Hands a green thread to the carrier in slot `number`, or to `each` if that slot has none any more.
    pub fn hand(&self, number: usize, green: Ready, mut each: impl FnMut(Ready)) {
        let Some(slot) = self.slots.get(number) else {
            return each(green);
        };
        slot.hand(green);
        fence(SeqCst);
        if self.occupied.load(SeqCst) & 1 << number == 0 {
            slot.take_mail(each);
        }
    }

    /// The slots that have a carrier, with its kernel thread's id.
    pub fn carriers(&self) -> impl Iterator<Item = (usize, u32)> {
        let occupied = self.occupied.load(Acquire);
        let slots = self.slots.iter().enumerate();
        slots
            .filter(move |(number, _)| occupied >> number & 1 != 0)
            .map(|(number, slot)| (number, slot.tid.load(Acquire)))
            .filter(|&(_, tid)| tid != 0)
    }

    /// The number of slots with a carrier.
    pub fn occupied(&self) -> u32 {
        self.occupied.load(Acquire).count_ones()
    }

    /// The sum over all present and past carriers.
    pub fn sum(&self, count: Count) -> u64 {
        let counts = self
            .slots
            .iter()
            .map(|slot| slot.counter(count).load(Relaxed));
        counts.sum()
    }
}

impl Default for Slots {
    fn default() -> Self {
        Self::new()
    }
}
