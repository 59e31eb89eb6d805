//! Comparisons of one word, of two, and of one with a store in between.

use std::mem::offset_of;

use rseq_rt::percpu::Operation;

use super::{Measured, WORD};
use crate::atomic::{self, LOCKED};
use crate::measure::hidden;
use crate::plain;
use crate::slot::{LENGTH, Slot, WORDS};

const SECOND: usize = offset_of!(Slot, second);
const BYTES: usize = offset_of!(Slot, bytes);

/// `compare_and_store`
#[derive(Default)]
pub struct Compare;

impl Measured for Compare {
    const NAME: &'static str = "compare_and_store";
    const ATOMIC: &'static str =
        "one compare-and-exchange; it expects what it stores, and never fails";
    type Answer = ();

    #[inline(always)]
    unsafe fn plain(&self, slot: &Slot) -> Option<()> {
        // SAFETY: (1).
        unsafe {
            plain::is(&slot.word, 0)?;
            plain::store(&slot.word, 0);
        }
        Some(())
    }

    #[inline(always)]
    unsafe fn atomic(&self, slot: &Slot) -> Option<()> {
        atomic::compare_and_store(&slot.word)
    }

    #[inline(always)]
    fn operation(&self) -> Operation {
        Operation::CompareAndStore {
            word: WORD,
            expect: 0,
            new: 0,
        }
    }
}

/// `compare_two_and_store`
#[derive(Default)]
pub struct CompareTwo;

impl Measured for CompareTwo {
    const NAME: &'static str = "compare_two_and_store";
    const ATOMIC: &'static str = LOCKED;
    type Answer = ();

    #[inline(always)]
    unsafe fn plain(&self, slot: &Slot) -> Option<()> {
        // SAFETY: (1).
        unsafe {
            plain::is(&slot.word, 0)?;
            plain::is(&slot.second, 0)?;
            plain::store(&slot.word, 0);
        }
        Some(())
    }

    #[inline(always)]
    unsafe fn atomic(&self, slot: &Slot) -> Option<()> {
        // SAFETY: plain (1) under the lock, by (1); (2) is (2).
        atomic::locked(&slot.lock, || unsafe { self.plain(slot) })
    }

    #[inline(always)]
    fn operation(&self) -> Operation {
        Operation::CompareTwoAndStore {
            word: WORD,
            expect: 0,
            second: SECOND,
            expect_second: 0,
            new: 0,
        }
    }
}

/// `compare_store_and_store`
#[derive(Default)]
pub struct CompareStore;

impl Measured for CompareStore {
    const NAME: &'static str = "compare_store_and_store";
    const ATOMIC: &'static str = LOCKED;
    type Answer = ();

    #[inline(always)]
    unsafe fn plain(&self, slot: &Slot) -> Option<()> {
        // SAFETY: (1).
        unsafe {
            plain::is(&slot.word, 0)?;
            plain::store(&slot.second, 1);
            plain::store(&slot.word, 0);
        }
        Some(())
    }

    #[inline(always)]
    unsafe fn atomic(&self, slot: &Slot) -> Option<()> {
        // SAFETY: plain (1) under the lock, by (1); (2) is (2).
        atomic::locked(&slot.lock, || unsafe { self.plain(slot) })
    }

    #[inline(always)]
    fn operation(&self) -> Operation {
        Operation::CompareStoreAndStore {
            word: WORD,
            expect: 0,
            second: SECOND,
            value: 1,
            new: 0,
        }
    }
}

/// `compare_copy_and_store`
#[derive(Default)]
pub struct CompareCopy {
    source: Line,
}

/// The source of the copy. Crossing a cache line takes up to twice as long.
#[repr(align(64))]
pub struct Line(pub [usize; WORDS]);

impl Default for Line {
    fn default() -> Self {
        Self([7; WORDS])
    }
}

impl Measured for CompareCopy {
    const NAME: &'static str = "compare_copy_and_store, 64 bytes";
    const ATOMIC: &'static str = LOCKED;
    type Answer = ();

    #[inline(always)]
    unsafe fn plain(&self, slot: &Slot) -> Option<()> {
        // SAFETY: (1).
        unsafe {
            plain::is(&slot.word, 0)?;
            plain::copy(slot, hidden(&self.source.0));
            plain::store(&slot.word, 0);
        }
        Some(())
    }

    #[inline(always)]
    unsafe fn atomic(&self, slot: &Slot) -> Option<()> {
        // SAFETY: plain (1) under the lock, by (1); (2) is (2).
        atomic::locked(&slot.lock, || unsafe { self.plain(slot) })
    }

    #[inline(always)]
    fn operation(&self) -> Operation {
        let from = hidden(&self.source.0).as_ptr().cast();
        Operation::CompareCopyAndStore {
            word: WORD,
            expect: 0,
            offset: BYTES,
            source: from,
            length: LENGTH,
            new: 0,
        }
    }
}
