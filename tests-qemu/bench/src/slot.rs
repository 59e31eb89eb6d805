//! What the operations work on.

use std::cell::UnsafeCell;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use rseq_rt::percpu::{Index, Slots};

/// How many bytes are copied where bytes are.
pub const LENGTH: usize = 64;
/// The same in words.
pub const WORDS: usize = LENGTH / size_of::<usize>();

/// One CPU's part, or one thread's: the bytes in one cache line, the words in the next.
#[repr(C, align(128))]
pub struct Slot {
    /// Where bytes go.
    pub bytes: UnsafeCell<[u8; LENGTH]>,
    /// What is committed.
    pub word: AtomicUsize,
    /// What else is looked at or stored.
    pub second: AtomicUsize,
    /// The address of another slot's `word`.
    pub pointer: AtomicUsize,
    /// Of the forms that need one.
    pub lock: AtomicUsize,
}

// SAFETY: the bytes are written by sections of their CPU, by the one thread of a plain run, or under the lock; nobody
// reads them.
unsafe impl Sync for Slot {}

impl Slot {
    /// All zeroes: its pointer leads nowhere yet.
    pub const fn new() -> Self {
        Self {
            bytes: UnsafeCell::new([0; LENGTH]),
            word: AtomicUsize::new(0),
            second: AtomicUsize::new(0),
            pointer: AtomicUsize::new(0),
            lock: AtomicUsize::new(0),
        }
    }

    /// Zeroes the words, and lets the pointer lead to the word of a slot of its own.
    pub fn renew(&self) {
        let far: &'static Slot = Box::leak(Box::new(Slot::new()));
        self.word.store(0, Relaxed);
        self.second.store(0, Relaxed);
        self.pointer
            .store((&raw const far.word).expose_provenance(), Relaxed);
    }

    /// New ones, one for each possible CPU.
    pub fn for_each_cpu() -> &'static [Slot] {
        let slots: Vec<Slot> = (0..possible()).map(|_| Slot::new()).collect();
        slots.iter().for_each(Slot::renew);
        Box::leak(slots.into_boxed_slice())
    }

    /// The word behind the pointer.
    ///
    /// # Safety
    /// 1. It was renewed, and nothing else was stored to the pointer.
    #[inline(always)]
    pub unsafe fn through(&self) -> &AtomicUsize {
        let address = self.pointer.load(Relaxed);
        // SAFETY: (1) the address of a leaked one.
        unsafe { &*std::ptr::with_exposed_provenance(address) }
    }
}

/// The numbers that CPUs can have here are below it.
pub fn possible() -> usize {
    // SAFETY: only reads.
    let configured = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
    usize::try_from(configured).unwrap_or(1).max(1)
}

/// Slots by the numbers `I`.
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

    /// Its address.
    pub fn address(&self) -> usize {
        (&raw const *self).expose_provenance()
    }

    /// The node that a list holds.
    ///
    /// # Safety
    /// 1. It is the address of a leaked one.
    #[inline(always)]
    pub unsafe fn at(address: usize) -> &'static Node {
        // SAFETY: (1).
        unsafe { &*std::ptr::with_exposed_provenance(address) }
    }
}
