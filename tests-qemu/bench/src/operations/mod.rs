//! The operations, each in all its forms: plain, in a section, atomic. Every measurement covers all of them.
//! Comparisons expect the value that they store, and a popped list is a ring of one node, so that each turn finds what
//! it expects, whichever thread had the turn before.

use std::mem::offset_of;

use rseq_rt::percpu::{Commit, Current, Index, Miss, Operation, Slots};

use crate::measure::Sink;
use crate::slot::Slot;

mod adds;
pub mod compares;
mod lists;

const WORD: usize = offset_of!(Slot, word);

/// An operation, with a thread's own data. Only one form of one operation uses a slot.
pub trait Measured: Default + Send {
    const NAME: &'static str;
    /// Description of its atomic form.
    const ATOMIC: &'static str;
    type Answer: Sink;

    /// Prepares a renewed slot.
    fn prepare(_slot: &Slot) {}

    /// The plain form.
    ///
    /// # Safety
    /// 1. No other thread uses the slot meanwhile.
    /// 2. It was renewed, then prepared for this operation, and used by no other since.
    unsafe fn plain(&self, slot: &Slot) -> Option<Self::Answer>;

    /// The atomic form, on a slot that all threads may use.
    ///
    /// # Safety
    /// 1. They use only this form.
    /// 2. As for [`Self::plain`].
    unsafe fn atomic(&self, slot: &Slot) -> Option<Self::Answer>;

    /// The form in a section, on the slot of the current CPU.
    #[inline(always)]
    fn section<I: Index, const RELEASE: bool>(
        &self,
        at: &At<'_, I, RELEASE>,
    ) -> Result<usize, Miss> {
        // SAFETY: (1) the words are those of `Slot`, which only the sections of one operation store to; (2) nobody
        // interprets them; (3) the pointer of a renewed slot, a node of the thread's that is never freed, LENGTH bytes
        // of the slot and of the thread.
        let done = unsafe {
            at.current
                .run(at.slots, self.operation(), At::<I, RELEASE>::COMMIT)
        };
        done.map(|popped| popped.addr())
    }

    /// The section's operation.
    fn operation(&self) -> Operation;

    /// The number of executions on a slot of [`ops::storage`](crate::ops::storage), if visible.
    fn done(_slot: &Slot) -> Option<usize> {
        None
    }
}

/// Thread, slots and commit order of a section. The order is in the type: as a captured value it would be a load and a
/// branch in each turn.
pub struct At<'a, I: Index, const RELEASE: bool> {
    pub current: Current<'a, I>,
    pub slots: Slots<'static, I, Slot>,
}

impl<I: Index, const RELEASE: bool> At<'_, I, RELEASE> {
    const COMMIT: Commit = match RELEASE {
        true => Commit::Release,
        false => Commit::Relaxed,
    };
}

/// The order of most rows.
pub type Relaxed<'a, I> = At<'a, I, false>;

/// A visitor of all operations.
pub trait Visit {
    fn operation<O: Measured>(&self);
}

/// Visits all operations, in the order of the tables.
pub fn each(visit: &impl Visit) {
    visit.operation::<adds::Add>();
    visit.operation::<adds::AddThrough>();
    visit.operation::<compares::Compare>();
    visit.operation::<compares::CompareTwo>();
    visit.operation::<compares::CompareStore>();
    visit.operation::<lists::CompareLink>();
    visit.operation::<lists::Pop>();
    visit.operation::<compares::CompareCopy>();
}
