//! What the child and its tracer tell each other, in memory that both have.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed};

use crate::errno::Errno;
use crate::sys::mm;

/// What the child and its tracer share.
#[derive(Default)]
pub struct Shared {
    /// The next case.
    pub case: AtomicU32,
    /// Where the child stands: see [`Phase`].
    pub phase: AtomicU32,
    /// What was wrong.
    pub fault: AtomicU32,
    /// Handlers that have done what they were to do.
    pub acts: AtomicU32,
}

/// Where the child stands at a stop of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Phase {
    /// Between two cases.
    Idle,
    /// In front of the hook.
    Front,
    /// Behind it.
    Behind,
}

static SHARED: AtomicPtr<Shared> = AtomicPtr::new(null_mut());

/// The shared memory of the walk that runs.
pub fn shared() -> Option<&'static Shared> {
    // SAFETY: never unmapped, and all atomics.
    unsafe { SHARED.load(Relaxed).as_ref() }
}

/// Maps the shared memory, for the children that follow.
pub fn share() -> Result<&'static Shared, Errno> {
    let at: *mut Shared = mm::map_shared(mm::whole_pages(size_of::<Shared>()))?.cast();
    SHARED.store(at, Relaxed);
    // SAFETY: zeroed shared memory, which is never unmapped.
    Ok(unsafe { &*at })
}

/// The child is there.
pub fn phase(phase: Phase) {
    if let Some(shared) = shared() {
        shared.phase.store(phase as u32, Relaxed);
    }
}
