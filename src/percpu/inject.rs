//! For tests alone (feature `inject`): the same sections with a place to stop at before each step.
//!
//! The sections that are shipped are not touched by it: these are functions beside them.

use core::sync::atomic::AtomicU32;

use super::operation::section_of;
use super::{Commit, Current, Index, Miss, Operation, Slots, sections};

/// Of one thread: where its next section is to stop, and for how long.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Steps {
    /// How many steps to the stop; counted down by the section. 0, or more than it has, is nowhere.
    pub left: AtomicU32,
    /// The stop lasts for so many turns; counted down by the section, so that a 0 of another thread's may be lost. A
    /// handler's is not: the section is aborted.
    pub turns: AtomicU32,
    /// The section stores 1 when it has come to the stop.
    pub here: AtomicU32,
    /// The stop ends when this is not 0. The section only reads it: this is for other threads.
    pub released: AtomicU32,
}

impl Steps {
    /// No stop.
    pub const fn new() -> Self {
        Self {
            left: AtomicU32::new(0),
            turns: AtomicU32::new(0),
            here: AtomicU32::new(0),
            released: AtomicU32::new(0),
        }
    }
}

impl<I: Index> Current<'_, I> {
    /// One try of [`Current::run`], with a stop.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// 1. As there.
    pub unsafe fn stopping<T>(
        self,
        slots: Slots<'_, I, T>,
        operation: Operation,
        commit: Commit,
        steps: &Steps,
    ) -> Result<*mut u8, Miss> {
        let steps = core::ptr::from_ref(steps).cast_mut();
        let current = self.restarts(0);
        macro_rules! run {
            ($name:ident($($operand:expr),*)) => {
                // SAFETY: the section's (1) is (1).
                unsafe { sections::$name::injected(current, slots, commit, $($operand,)* steps) }
            };
        }
        section_of!(operation, slots, run).map(core::ptr::with_exposed_provenance_mut)
    }
}
