//! The same shapes without sections: plain, on words that only one thread uses, and atomic, on words that all may.

use std::cell::UnsafeCell;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use rseq_rt::percpu::{Index, Slots};

/// How many bytes are copied where bytes are.
pub const LENGTH: usize = 64;

/// One CPU's part.
#[repr(C, align(128))]
pub struct Slot {
    /// What is committed.
    pub word: AtomicUsize,
    /// What else is looked at or stored.
    pub second: AtomicUsize,
    /// The address of another slot's `word`.
    pub pointer: AtomicUsize,
    /// Where bytes go.
    pub bytes: UnsafeCell<[u8; LENGTH]>,
}

// SAFETY: the bytes are written by sections of their CPU, or by the one thread of a plain run, and read by nobody.
unsafe impl Sync for Slot {}

impl Slot {
    const fn new() -> Self {
        Self {
            word: AtomicUsize::new(0),
            second: AtomicUsize::new(0),
            pointer: AtomicUsize::new(0),
            bytes: UnsafeCell::new([0; LENGTH]),
        }
    }

    /// New ones, one for each possible CPU, each with a pointer to another new one.
    pub fn for_each_cpu() -> &'static [Slot] {
        let slots = || -> &'static [Slot] {
            let new = (0..possible()).map(|_| Slot::new());
            Box::leak(new.collect::<Vec<_>>().into_boxed_slice())
        };
        let (near, far) = (slots(), slots());
        for (near, far) in near.iter().zip(far) {
            let address = (&raw const far.word).expose_provenance();
            near.pointer.store(address, Relaxed);
        }
        near
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

/// A word added to by plain instructions.
#[inline(always)]
pub fn add(word: &AtomicUsize) {
    let word = word.as_ptr();
    // SAFETY: of one thread. Volatile, so that the additions of several turns do not become one.
    unsafe { word.write_volatile(word.read_volatile() + 1) };
}

/// The atomic one. The sum is not wanted, so that the compiler takes the instruction that does not fetch it.
#[inline(always)]
pub fn atomic_add(word: &AtomicUsize) {
    word.fetch_add(1, Relaxed);
}

/// The word behind `slot.pointer`.
#[inline(always)]
pub fn through(slot: &Slot) -> &AtomicUsize {
    let address = slot.pointer.load(Relaxed);
    // SAFETY: for_each_cpu stored the address of a leaked one.
    unsafe { &*std::ptr::with_exposed_provenance(address) }
}

/// A plain compare-and-store of `word`, 0 for 0.
#[inline(always)]
pub fn compare_and_store(word: &AtomicUsize) -> bool {
    let word = word.as_ptr();
    // SAFETY: of one thread; volatile as above.
    unsafe {
        let equal = word.read_volatile() == 0;
        if equal {
            word.write_volatile(0);
        }
        equal
    }
}

/// The atomic one.
#[inline(always)]
pub fn compare_exchange(word: &AtomicUsize) -> bool {
    word.compare_exchange(0, 0, Release, Relaxed).is_ok()
}

/// Copies the bytes.
#[inline(always)]
pub fn copy(slot: &Slot, source: &[u8; LENGTH]) {
    // SAFETY: of one thread; both have LENGTH bytes, in different objects.
    unsafe { slot.bytes.get().write_volatile(*source) };
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

    fn at(address: usize) -> &'static Node {
        // SAFETY: what the lists below hold are addresses of leaked nodes.
        unsafe { &*std::ptr::with_exposed_provenance(address) }
    }
}

/// Plain push, then pop.
#[inline(always)]
pub fn push_pop(head: &AtomicUsize, node: &Node) -> usize {
    let head = head.as_ptr();
    // SAFETY: of one thread; volatile as above.
    unsafe {
        node.next.as_ptr().write_volatile(head.read_volatile());
        head.write_volatile(node.address());
        let first = head.read_volatile();
        head.write_volatile(Node::at(first).next.as_ptr().read_volatile());
        first
    }
}

/// The same with compare-and-exchange, and without what it takes against a node that is popped and pushed
/// again in between: wrong for several threads, and so less than what a right one costs.
#[inline(always)]
pub fn atomic_push_pop(head: &AtomicUsize, node: &Node) -> usize {
    let mut seen = head.load(Relaxed);
    loop {
        node.next.store(seen, Relaxed);
        match head.compare_exchange_weak(seen, node.address(), Release, Relaxed) {
            Ok(_) => break,
            Err(now) => seen = now,
        }
    }
    let mut first = head.load(Acquire);
    loop {
        let next = Node::at(first).next.load(Relaxed);
        match head.compare_exchange_weak(first, next, AcqRel, Acquire) {
            Ok(_) => return first,
            Err(now) => first = now,
        }
    }
}
