//! The operations in plain instructions, on words that only one thread uses. Volatile, so that the compiler does not
//! make one turn of several.

use std::sync::atomic::AtomicUsize;

use crate::slot::{LENGTH, Node, Slot};

#[inline(always)]
fn load(word: &AtomicUsize) -> usize {
    // SAFETY: of one thread.
    unsafe { word.as_ptr().read_volatile() }
}

/// A plain store.
#[inline(always)]
pub fn store(word: &AtomicUsize, value: usize) {
    // SAFETY: of one thread.
    unsafe { word.as_ptr().write_volatile(value) };
}

/// Whether the word is `expect`.
#[inline(always)]
pub fn is(word: &AtomicUsize, expect: usize) -> Option<()> {
    (load(word) == expect).then_some(())
}

/// Adds one.
#[inline(always)]
pub fn add(word: &AtomicUsize) {
    store(word, load(word) + 1);
}

/// Copies the bytes.
#[inline(always)]
pub fn copy(slot: &Slot, source: &[u8; LENGTH]) {
    // SAFETY: of one thread; both have LENGTH bytes, in different objects.
    unsafe { slot.bytes.get().write_volatile(*source) };
}

/// Push.
#[inline(always)]
pub fn push(head: &AtomicUsize, node: &Node) {
    store(&node.next, load(head));
    store(head, node.address());
}

/// Pop. `None` of an empty list.
#[inline(always)]
pub fn pop(head: &AtomicUsize) -> Option<usize> {
    let first = load(head);
    if first == 0 {
        return None;
    }
    store(head, load(&Node::at(first).next));
    Some(first)
}
