//! Additions to one word, and through a pointer.

use std::mem::offset_of;
use std::sync::atomic::Ordering::Relaxed;

use rseq_rt::percpu::Operation;

use super::{Measured, WORD};
use crate::slot::Slot;
use crate::{atomic, plain};

const POINTER: usize = offset_of!(Slot, pointer);

/// `add`
#[derive(Default)]
pub struct Add;

impl Measured for Add {
    const NAME: &'static str = "add";
    const ATOMIC: &'static str = "one locked add";
    type Answer = ();

    #[inline(always)]
    unsafe fn plain(&self, slot: &Slot) -> Option<()> {
        // SAFETY: (1).
        unsafe { plain::add(&slot.word) };
        Some(())
    }

    #[inline(always)]
    unsafe fn atomic(&self, slot: &Slot) -> Option<()> {
        atomic::add(&slot.word);
        Some(())
    }

    #[inline(always)]
    fn operation(&self) -> Operation {
        Operation::Add {
            word: WORD,
            value: 1,
        }
    }

    fn done(slot: &Slot) -> Option<usize> {
        Some(slot.word.load(Relaxed))
    }
}

/// `add_through`
#[derive(Default)]
pub struct AddThrough;

impl Measured for AddThrough {
    const NAME: &'static str = "add_through";
    const ATOMIC: &'static str = "a load of the pointer, then one locked add";
    type Answer = ();

    #[inline(always)]
    unsafe fn plain(&self, slot: &Slot) -> Option<()> {
        // SAFETY: add (1) the word is the slot's own; through (1) is (2).
        unsafe { plain::add(slot.through()) };
        Some(())
    }

    #[inline(always)]
    unsafe fn atomic(&self, slot: &Slot) -> Option<()> {
        // SAFETY: through (1) is (2).
        atomic::add(unsafe { slot.through() });
        Some(())
    }

    #[inline(always)]
    fn operation(&self) -> Operation {
        Operation::AddThrough {
            word: POINTER,
            offset: 0,
            value: 1,
        }
    }

    fn done(slot: &Slot) -> Option<usize> {
        // SAFETY: through (1) called for a measured slot.
        Some(unsafe { slot.through() }.load(Relaxed))
    }
}
