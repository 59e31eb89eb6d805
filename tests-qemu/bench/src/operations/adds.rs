//! To one word, and through a pointer.

use std::mem::offset_of;
use std::sync::atomic::Ordering::Relaxed;

use rseq_rt::percpu::{Index, Miss};

use super::{At, Operation, WORD};
use crate::slot::Slot;
use crate::{atomic, plain};

const POINTER: usize = offset_of!(Slot, pointer);

/// `add`
#[derive(Default)]
pub struct Add;

impl Operation for Add {
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
    fn section<I: Index, const RELEASE: bool>(&self, at: &At<'_, I, RELEASE>) -> Result<(), Miss> {
        // SAFETY: as At says.
        unsafe { at.current.add(at.slots, WORD, 1, At::<I, RELEASE>::COMMIT) }
    }

    fn done(slot: &Slot) -> Option<usize> {
        Some(slot.word.load(Relaxed))
    }
}

/// `add_through`
#[derive(Default)]
pub struct AddThrough;

impl Operation for AddThrough {
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
    fn section<I: Index, const RELEASE: bool>(&self, at: &At<'_, I, RELEASE>) -> Result<(), Miss> {
        // SAFETY: as At says; (3) `renew` stored such a pointer in each slot.
        unsafe {
            at.current
                .add_through(at.slots, POINTER, 0, 1, At::<I, RELEASE>::COMMIT)
        }
    }

    fn done(slot: &Slot) -> Option<usize> {
        // SAFETY: through (1) asked of a slot that was measured.
        Some(unsafe { slot.through() }.load(Relaxed))
    }
}
