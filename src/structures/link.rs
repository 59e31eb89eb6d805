//! The links of a list, as the words in memory hold them.
//!
//! A word is the distance of a link from [`LAST`], so that
//!
//! * [`END`], an empty list, is 0, and zeroed memory is one;
//! * [`CLOSED`], the mark of a drain, is the one value that a pop looks for and stores nothing over;
//! * the link behind an empty list is readable, [`LAST`] itself, and leads to the empty list again: a
//!   pop of an empty list stores what was there.

use core::ptr::with_exposed_provenance;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

/// An empty list.
pub(super) const END: usize = 0;
/// No list: a drain has the slot. Odd, as no link is.
pub(super) const CLOSED: usize = 1;

static LAST: AtomicUsize = AtomicUsize::new(END);

/// The encoding of a word.
pub(super) struct Links;

impl Links {
    /// The offset that a section adds to a word to find the link.
    #[inline]
    pub(super) fn origin() -> usize {
        LAST.as_ptr().expose_provenance()
    }

    /// The word for a link.
    #[inline]
    pub(super) fn word(link: *const AtomicUsize) -> usize {
        link.expose_provenance().wrapping_sub(Self::origin())
    }

    /// The link that a word leads to.
    #[inline]
    pub(super) fn address(word: usize) -> *const AtomicUsize {
        with_exposed_provenance(word.wrapping_add(Self::origin()))
    }

    /// # Safety
    /// 1. `word` leads to a link that lives for `'a`.
    #[inline]
    pub(super) unsafe fn at<'a>(word: usize) -> &'a AtomicUsize {
        // SAFETY: (1).
        unsafe { &*Self::address(word) }
    }

    /// # Safety
    /// 1. The links from `first`, which is one, to the end are the caller's.
    pub(super) unsafe fn last_of(first: usize) -> usize {
        let mut last = first;
        loop {
            // SAFETY: at (1) by (1).
            match unsafe { Self::at(last) }.load(Relaxed) {
                END => return last,
                next => last = next,
            }
        }
    }
}
