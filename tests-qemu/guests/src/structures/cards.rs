//! The objects that the tests pass around: each detects two holders, and counts how often it was held.

use core::sync::atomic::Ordering::{AcqRel, Relaxed};
use core::sync::atomic::{AtomicU32, AtomicUsize};

/// In a structure.
const FREE: u32 = 0x0f4e_e000;
/// Held by a thread.
const HELD: u32 = 0x0e1d_0000;

/// An object that only one thread at a time may hold.
pub struct Card {
    state: AtomicU32,
    // Deliberately not atomic: two holders at once lose a count.
    held: core::cell::UnsafeCell<usize>,
}

// SAFETY: only its holder accesses it; the tests check that.
unsafe impl Sync for Card {}
// SAFETY: as above.
unsafe impl Send for Card {}

/// How often cards were held, as counted by the holders.
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

    /// Takes it out of a structure: nobody else may have it.
    pub fn take(&self, held: &Held) {
        let before = self.state.swap(HELD, AcqRel);
        held.0.fetch_add(1, Relaxed);
        // SAFETY: held only by this thread, or the test has failed.
        unsafe { *self.held.get() += 1 };
        assert_eq!(before, FREE, "a node was handed out twice, or is invalid");
    }

    /// Called before it is given back.
    pub fn put(&self) {
        self.state.store(FREE, Relaxed);
    }

    /// How often it was held. For the holder, or after the test.
    pub fn count(&self) -> usize {
        // SAFETY: as documented.
        unsafe { *self.held.get() }
    }
}
