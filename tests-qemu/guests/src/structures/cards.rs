//! What the tests pass around: it knows if two hold it, and how often it was held.

use core::sync::atomic::Ordering::{AcqRel, Relaxed};
use core::sync::atomic::{AtomicU32, AtomicUsize};

/// In a structure.
const FREE: u32 = 0x0f4e_e000;
/// In somebody's hands.
const HELD: u32 = 0x0e1d_0000;

/// A thing that one thread at a time may hold.
pub struct Card {
    state: AtomicU32,
    // Not atomic on purpose: two holders at once lose a count.
    held: core::cell::UnsafeCell<usize>,
}

// SAFETY: who holds it has it alone; that is what the tests find out.
unsafe impl Sync for Card {}
// SAFETY: as above.
unsafe impl Send for Card {}

/// How often cards were held, by the count of the holders.
#[derive(Default)]
pub struct Held(AtomicUsize);

impl Held {
    pub const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    pub fn count(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl Card {
    /// In a structure, or on the way to one.
    pub const fn new() -> Self {
        Self {
            state: AtomicU32::new(FREE),
            held: core::cell::UnsafeCell::new(0),
        }
    }

    /// It was got: nobody else may have it.
    pub fn take(&self, held: &Held) {
        let before = self.state.swap(HELD, AcqRel);
        held.0.fetch_add(1, Relaxed);
        // SAFETY: held by this thread alone, or the test has failed.
        unsafe { *self.held.get() += 1 };
        assert_eq!(before, FREE, "a node was given twice, or is none");
    }

    /// It is about to be given back.
    pub fn put(&self) {
        self.state.store(FREE, Relaxed);
    }

    /// How often it was held. For who holds it, or when all is over.
    pub fn count(&self) -> usize {
        // SAFETY: as said.
        unsafe { *self.held.get() }
    }
}
