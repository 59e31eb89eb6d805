//! The operations, each in all its forms: plain, in a section, atomic. What is measured is measured of each of them.
//!
//! The comparisons expect what they store, and a list that is popped is a ring of one node: so each turn finds what it
//! expects, whichever thread's turn was before it.

use std::mem::offset_of;

use rseq_rt::percpu::{Commit, Current, Index, Miss, Operation, Slots};

use crate::measure::Sink;
use crate::slot::Slot;

mod adds;
pub mod compares;
mod lists;

const WORD: usize = offset_of!(Slot, word);

/// One of them, with what a thread brings along. A slot is used by one form of one operation alone.
pub trait Measured: Default + Send {
    /// The name of its rows.
    const NAME: &'static str;
    /// What its atomic form is.
    const ATOMIC: &'static str;
    /// What it gives back.
    type Answer: Sink;

    /// Makes a renewed slot ready for it.
    fn prepare(_slot: &Slot) {}

    /// In plain instructions.
    ///
    /// # Safety
    /// 1. No other thread uses the slot meanwhile.
    /// 2. It was renewed, then prepared for this operation, and used by no other one since.
    unsafe fn plain(&self, slot: &Slot) -> Option<Self::Answer>;

    /// On a slot that all threads may use.
    ///
    /// # Safety
    /// 1. Those that do use this form alone.
    /// 2. As of [`Self::plain`].
    unsafe fn atomic(&self, slot: &Slot) -> Option<Self::Answer>;

    /// On the slot of the moment.
    #[inline(always)]
    fn section<I: Index, const RELEASE: bool>(
        &self,
        at: &At<'_, I, RELEASE>,
    ) -> Result<usize, Miss> {
        // SAFETY: (1) the words are those of `Slot`, which the sections of one operation alone store to; (2) nobody reads
        // a meaning out of them; (3) the pointer of a renewed slot, a node of the thread's that is never freed, LENGTH
        // bytes of the slot and of the thread.
        let done = unsafe {
            at.current
                .run(at.slots, self.operation(), At::<I, RELEASE>::COMMIT)
        };
        done.map(|popped| popped.addr())
    }

    /// What the section does.
    fn operation(&self) -> Operation;

    /// How often it was done on a slot of [`ops::storage`](crate::ops::storage), where that can be seen.
    fn done(_slot: &Slot) -> Option<usize> {
        None
    }
}

/// Where and how a section is run.
///
/// The order is in the type: as a value that a closure captures it would be a load and a branch in each turn.
pub struct At<'a, I: Index, const RELEASE: bool> {
    /// The thread.
    pub current: Current<'a, I>,
    /// The slots.
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

/// What is to be done with each operation.
pub trait Visit {
    /// With this one.
    fn operation<O: Measured>(&self);
}

/// All, in the order of the tables.
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
