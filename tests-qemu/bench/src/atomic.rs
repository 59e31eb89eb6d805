//! The operations with atomics, on words shared by all threads: one instruction if there is one, else the customary
//! method.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::slot::Node;

/// Description of [`locked`] for the table.
pub const LOCKED: &str = "no one instruction on all CPUs: a spin lock beside the word, taken with an exchange, left with a store, around the plain steps; it acquires and releases, the section of most rows does not";
/// Description of [`push`] and [`pop`] for the table.
pub const TAGGED: &str = "a compare-and-exchange of the head with a tag in its 16 upper bits against ABA, tried again until it holds; it acquires or releases, the section of most rows does not";

/// Attempts at a lock between two calls of sched_yield(2): with more threads than CPUs its holder may not be running.
const SPINS: u32 = 64;

/// User addresses are lower on all three CPUs, unless higher ones are requested.
const TAG: usize = 1 << 48;

/// Adds one. The sum is unused, so that the compiler chooses the instruction that does not fetch it.
#[inline(always)]
pub fn add(word: &AtomicUsize) {
    word.fetch_add(1, Relaxed);
}

/// Compares and stores, 0 for 0.
#[inline(always)]
pub fn compare_and_store(word: &AtomicUsize) -> Option<()> {
    word.compare_exchange(0, 0, Release, Relaxed)
        .ok()
        .map(|_| ())
}

/// Runs the operation under the lock.
#[inline(always)]
pub fn locked<T>(lock: &AtomicUsize, steps: impl FnOnce() -> T) -> T {
    if lock.swap(1, Acquire) != 0 {
        wait(lock);
    }
    let answer = steps();
    lock.store(0, Release);
    answer
}

/// Waits for the lock.
#[cold]
fn wait(lock: &AtomicUsize) {
    loop {
        for _ in 0..SPINS {
            // Tested before the swap, so that the line is not taken from the holder needlessly.
            if lock.load(Relaxed) == 0 && lock.swap(1, Acquire) == 0 {
                return;
            }
            std::hint::spin_loop();
        }
        std::thread::yield_now();
    }
}

/// Push onto a list with a tagged head.
#[inline(always)]
pub fn push(head: &AtomicUsize, node: &Node) {
    let mut seen = head.load(Relaxed);
    loop {
        node.next.store(untagged(seen), Relaxed);
        match head.compare_exchange_weak(seen, next_tag(seen) | node.address(), Release, Relaxed) {
            Ok(_) => return,
            Err(now) => seen = now,
        }
    }
}

/// Pop from a list with a tagged head. `None` if it is empty.
///
/// # Safety
/// 1. The list holds addresses of leaked nodes.
#[inline(always)]
pub unsafe fn pop(head: &AtomicUsize) -> Option<usize> {
    let mut seen = head.load(Acquire);
    loop {
        let first = untagged(seen);
        if first == 0 {
            return None;
        }
        // Another thread may have popped the node: its memory still exists, and the tag detects that.
        // SAFETY: Node::at (1) is (1).
        let next = unsafe { Node::at(first) }.next.load(Relaxed);
        match head.compare_exchange_weak(seen, next_tag(seen) | next, AcqRel, Acquire) {
            Ok(_) => return Some(first),
            Err(now) => seen = now,
        }
    }
}

#[inline(always)]
fn untagged(head: usize) -> usize {
    head & (TAG - 1)
}

/// The tag that follows that of `head`, without an address.
#[inline(always)]
fn next_tag(head: usize) -> usize {
    (head & !(TAG - 1)).wrapping_add(TAG)
}
