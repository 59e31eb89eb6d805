//! The mark of a drain in a slot whose word is a count.

use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::compiler_fence;

use super::thread::MAXIMUM_TRIES;
use crate::percpu::DrainError;

/// No section expects a word with this bit, and none stores one.
pub(super) const MARK: usize = 1 << (usize::BITS - 1);

/// Does a drain have the slot?
#[inline]
pub(super) const fn is_set(word: usize) -> bool {
    word & MARK != 0
}

/// Closes the slot, gives its count to `content`, and opens it with a count of 0; the count. Or an error, and the slot
/// as it was.
pub(super) fn drain(
    word: &AtomicUsize,
    drained: &AtomicUsize,
    abort_sections: impl Fn() -> Result<(), DrainError>,
    content: impl FnOnce(usize),
) -> Result<usize, DrainError> {
    // Two drains would take each other's mark for their own.
    if drained.swap(1, Acquire) != 0 {
        return Err(DrainError::Busy);
    }
    let outcome = close(word, abort_sections).inspect(|&count| {
        // Before the first item is given away: a fork child would find in the slot what `content` has freed by then. It
        // sees a prefix of this thread's stores, so their program order is enough.
        word.store(MARK, Relaxed);
        compiler_fence(SeqCst);
        content(count);
        word.store(0, Release);
    });
    drained.store(0, Release);
    outcome
}

/// In a fork child: ends a drain whose thread is not there. What it had not yet taken is the slot's.
pub(super) fn reopen(word: &AtomicUsize, drained: &AtomicUsize) {
    // A slot that needs no repair is not written to: the page stays shared with the parent.
    let count = word.load(Relaxed);
    if is_set(count) {
        word.store(count & !MARK, Relaxed);
    }
    if drained.load(Relaxed) != 0 {
        drained.store(0, Relaxed);
    }
}

fn close(
    word: &AtomicUsize,
    abort_sections: impl Fn() -> Result<(), DrainError>,
) -> Result<usize, DrainError> {
    for _ in 0..MAXIMUM_TRIES {
        word.fetch_or(MARK, AcqRel);
        if let Err(error) = abort_sections() {
            // Whatever a section in flight stores now or later has no mark, and is right for the count it found.
            word.fetch_and(!MARK, Relaxed);
            return Err(error);
        }
        // Gone, if a section that had compared before the mark stored over it. If it is there, none did, and none can
        // any more.
        let seen = word.load(Acquire);
        if is_set(seen) {
            return Ok(seen & !MARK);
        }
    }
    Err(DrainError::Busy)
}
