//! A pop from a slot without a section, as a thread that nobody registered would do it. Broken on purpose.

use core::ptr::with_exposed_provenance;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

use rseq_rt::structures::ListSlot;

use super::crowd::SLOTS;

/// The head as it was.
pub struct Rude(usize);

/// The first word of a slot.
fn head(slots: &[ListSlot; SLOTS], cpu: usize) -> Option<&AtomicUsize> {
    let slot = core::ptr::from_ref(slots.get(cpu)?);
    // SAFETY: a slot begins with its head, in an atomic.
    Some(unsafe { &*slot.cast() })
}

impl Rude {
    /// Loads the head.
    pub fn begin(slots: &[ListSlot; SLOTS], cpu: usize) -> Self {
        Self(head(slots, cpu).map_or(0, |head| head.load(Relaxed)))
    }

    /// Stores what is behind it, the end of the list. Did it get a node?
    pub fn commit(self, slots: &[ListSlot; SLOTS], cpu: usize) -> bool {
        if let Some(head) = head(slots, cpu) {
            head.store(0, Relaxed);
        }
        let _ = with_exposed_provenance::<u8>(self.0);
        self.0 != 0
    }
}
