//! The storage of the operations.

use std::cell::UnsafeCell;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use rseq_rt::percpu::{Index, Slots};

/// The number of bytes that a copy moves.
pub const LENGTH: usize = 64;
/// The same in words.
pub const WORDS: usize = LENGTH / size_of::<usize>();

/// The slot of a CPU or thread: the bytes in one cache line, the words in the next.
#[repr(C, align(128))]
pub struct Slot {
    /// The target of a copy.
    pub bytes: UnsafeCell<[u8; LENGTH]>,
    /// The word that a commit writes.
    pub word: AtomicUsize,
    /// Another word that is compared or stored to.
    pub second: AtomicUsize,
    /// The address of another slot's `word`.
    pub pointer: AtomicUsize,
    /// For the forms that need a lock.
    pub lock: AtomicUsize,
}

// SAFETY: the bytes are written by sections of their CPU, by the one thread of a plain run, or under the lock; nobody
// reads them.
unsafe impl Sync for Slot {}

impl Slot {
    /// All zeroes, with a null pointer.
    pub const fn new() -> Self {
        Self {
            bytes: UnsafeCell::new([0; LENGTH]),
            word: AtomicUsize::new(0),
            second: AtomicUsize::new(0),
            pointer: AtomicUsize::new(0),
            lock: AtomicUsize::new(0),
        }
    }

    /// Zeroes the words, and points the pointer at the word of a new slot.
    pub fn renew(&self) {
        let far: &'static Slot = Box::leak(Box::new(Slot::new()));
        self.word.store(0, Relaxed);
        self.second.store(0, Relaxed);
        self.pointer
            .store((&raw const far.word).expose_provenance(), Relaxed);
    }

    /// New slots, one for each possible CPU.
    pub fn for_each_cpu() -> &'static [Slot] {
        let slots: Vec<Slot> = (0..possible()).map(|_| Slot::new()).collect();
        slots.iter().for_each(Slot::renew);
        Box::leak(slots.into_boxed_slice())
    }

    /// The word behind the pointer.
    ///
    /// # Safety
    /// 1. It was renewed, and the pointer was not stored to since.
    #[inline(always)]
    pub unsafe fn through(&self) -> &AtomicUsize {
        let address = self.pointer.load(Relaxed);
        // SAFETY: (1) the address of a leaked slot.
        unsafe { &*std::ptr::with_exposed_provenance(address) }
    }
}

/// Greater than any CPU number of this machine.
pub fn possible() -> usize {
    // SAFETY: reads only.
    let configured = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
    usize::try_from(configured).unwrap_or(1).max(1)
}

/// Slots indexed by `I`.
pub fn slots<I: Index>(storage: &'static [Slot]) -> Slots<'static, I, Slot> {
    Slots::new(storage).expect("slots of 128 bytes, at least one")
}

/// A node of a list.
#[repr(C, align(64))]
pub struct Node {
    /// The next one's address, or 0.
    pub next: AtomicUsize,
}

impl Node {
    /// A node that is never freed.
    pub fn leaked() -> &'static Node {
        let next = AtomicUsize::new(0);
        Box::leak(Box::new(Node { next }))
    }

    pub fn address(&self) -> usize {
        (&raw const *self).expose_provenance()
    }

    /// The node that a list holds.
    ///
    /// # Safety
    /// 1. It is the address of a leaked node.
    #[inline(always)]
    pub unsafe fn at(address: usize) -> &'static Node {
        // SAFETY: (1).
        unsafe { &*std::ptr::with_exposed_provenance(address) }
    }
}
