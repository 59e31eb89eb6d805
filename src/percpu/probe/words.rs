//! The words shared by the probe and its section.

use core::sync::atomic::AtomicU32;

/// The words that the section knows, in this order.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Stand {
    /// The section stores the number of the round when it stands.
    pub here: AtomicU32,
    /// The section goes on when this is the number of the round.
    pub released: AtomicU32,
    /// The section's committing store, of the number of the round.
    pub committed: AtomicU32,
}

/// The return value of a section that was aborted.
pub(crate) const ABORTED: usize = usize::MAX;
