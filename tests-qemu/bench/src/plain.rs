//! The operations in plain instructions. Volatile, so that the compiler does not merge turns. Every function has one
//! condition: (1) no other thread uses the words meanwhile, either because the thread owns them or because it holds
//! their lock.

use std::sync::atomic::AtomicUsize;

use crate::slot::{LENGTH, Node, Slot, WORDS};

/// # Safety
/// 1. The module's.
#[inline(always)]
unsafe fn load(word: &AtomicUsize) -> usize {
    // SAFETY: a live word, (1) without a race.
    unsafe { word.as_ptr().read_volatile() }
}

/// A plain store.
///
/// # Safety
/// 1. The module's.
#[inline(always)]
pub unsafe fn store(word: &AtomicUsize, value: usize) {
    // SAFETY: a live word, (1) without a race.
    unsafe { word.as_ptr().write_volatile(value) };
}

/// Whether the word is `expect`.
///
/// # Safety
/// 1. The module's.
#[inline(always)]
pub unsafe fn is(word: &AtomicUsize, expect: usize) -> Option<()> {
    // SAFETY: (1).
    (unsafe { load(word) } == expect).then_some(())
}

/// Adds one.
///
/// # Safety
/// 1. The module's.
#[inline(always)]
pub unsafe fn add(word: &AtomicUsize) {
    // SAFETY: (1).
    unsafe { store(word, load(word) + 1) };
}

/// Copies the bytes, by words as the section does.
///
/// # Safety
/// 1. The module's.
#[inline(always)]
pub unsafe fn copy(slot: &Slot, source: &[usize; WORDS]) {
    const { assert!(LENGTH == WORDS * size_of::<usize>()) };
    let to = slot.bytes.get().cast::<usize>();
    for (nth, word) in source.iter().enumerate() {
        // SAFETY: of LENGTH bytes, aligned as the slot is, in different objects, (1) without a race.
        unsafe {
            let value = (&raw const *word).read_volatile();
            to.add(nth).write_volatile(value);
        }
    }
}

/// Push.
///
/// # Safety
/// 1. The module's.
#[inline(always)]
pub unsafe fn push(head: &AtomicUsize, node: &Node) {
    // SAFETY: (1).
    unsafe {
        store(&node.next, load(head));
        store(head, node.address());
    }
}

/// Pop. `None` if the list is empty.
///
/// # Safety
/// 1. The module's.
/// 2. The list holds addresses of leaked nodes.
#[inline(always)]
pub unsafe fn pop(head: &AtomicUsize) -> Option<usize> {
    // SAFETY: load, store (1); Node::at (1) is (2).
    unsafe {
        let first = load(head);
        if first == 0 {
            return None;
        }
        store(head, load(&Node::at(first).next));
        Some(first)
    }
}
