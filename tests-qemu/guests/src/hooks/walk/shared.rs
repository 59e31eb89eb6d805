//! The memory shared by the child and its tracer. One of them runs at a time: the tracer while the child is stopped.

use core::cell::Cell;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use super::case::Case;
use crate::sys::mm;

/// A violated postcondition, in words. At the same address in all processes of the walk, which are copies of one.
pub type Fault = &'static str;

/// The fault, unless `holds`.
pub fn must(holds: bool, fault: Fault) -> Result<(), Fault> {
    match holds {
        true => Ok(()),
        false => Err(fault),
    }
}

pub struct Shared {
    /// The current or next case; `None` ends the child.
    pub case: Cell<Option<Case>>,
    /// The child's stop.
    pub phase: Cell<Phase>,
    pub fault: Cell<Option<Fault>>,
    /// Handlers that have finished.
    pub acts: Cell<u32>,
}

/// The child's own stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Between two cases.
    Idle,
    /// Before the hook.
    Front,
    /// After the hook.
    Behind,
}

impl Shared {
    /// Keeps the first fault of a case.
    pub fn note(&self, outcome: Result<(), Fault>) {
        self.fault.set(self.fault.get().or(outcome.err()));
    }
}

static SHARED: AtomicPtr<Shared> = AtomicPtr::new(null_mut());

/// The shared memory of the running walk.
pub fn shared() -> &'static Shared {
    // SAFETY: mapped by `share`, and never unmapped.
    unsafe { SHARED.load(Relaxed).as_ref() }.unwrap()
}

/// Maps the shared memory, for the children that follow.
pub fn share() -> &'static Shared {
    let at: *mut Shared = mm::map_shared(mm::whole_pages(size_of::<Shared>()))
        .unwrap()
        .cast();
    let new = Shared {
        case: Cell::new(None),
        phase: Cell::new(Phase::Idle),
        fault: Cell::new(None),
        acts: Cell::new(0),
    };
    // SAFETY: a new mapping.
    unsafe { at.write(new) };
    SHARED.store(at, Relaxed);
    shared()
}
