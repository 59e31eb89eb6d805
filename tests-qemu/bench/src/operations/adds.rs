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
    fn plain(&self, slot: &Slot) -> Option<()> {
        plain::add(&slot.word);
        Some(())
    }

    #[inline(always)]
    fn atomic(&self, slot: &Slot) -> Option<()> {
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
    fn plain(&self, slot: &Slot) -> Option<()> {
        plain::add(slot.through());
        Some(())
    }

    #[inline(always)]
    fn atomic(&self, slot: &Slot) -> Option<()> {
        atomic::add(slot.through());
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
        Some(slot.through().load(Relaxed))
    }
}
