//! Push and pop.

use std::ptr;
use std::sync::atomic::Ordering::Relaxed;

use rseq_rt::percpu::{Index, Miss};

use super::{At, Operation, WORD};
use crate::atomic::{self, TAGGED};
use crate::measure::hidden;
use crate::plain;
use crate::slot::{Node, Slot};

/// `compare_link_and_store`
pub struct CompareLink {
    node: &'static Node,
}

impl Default for CompareLink {
    fn default() -> Self {
        Self {
            node: Node::leaked(),
        }
    }
}

impl Operation for CompareLink {
    const NAME: &'static str = "compare_link_and_store";
    const ATOMIC: &'static str = TAGGED;
    type Answer = ();

    #[inline(always)]
    unsafe fn plain(&self, slot: &Slot) -> Option<()> {
        // SAFETY: (1); the node is the thread's.
        unsafe {
            plain::is(&slot.word, 0)?;
            plain::store(&hidden(self.node).next, 0);
            plain::store(&slot.word, 0);
        }
        Some(())
    }

    #[inline(always)]
    unsafe fn atomic(&self, slot: &Slot) -> Option<()> {
        atomic::push(&slot.word, hidden(self.node));
        Some(())
    }

    #[inline(always)]
    fn section<I: Index, const RELEASE: bool>(&self, at: &At<'_, I, RELEASE>) -> Result<(), Miss> {
        let link = hidden(self.node).next.as_ptr();
        // SAFETY: as At says; (3) the thread's own.
        unsafe {
            at.current
                .compare_link_and_store(at.slots, WORD, 0, link, 0, At::<I, RELEASE>::COMMIT)
        }
    }
}

/// `pop`
#[derive(Default)]
pub struct Pop;

impl Operation for Pop {
    const NAME: &'static str = "pop";
    const ATOMIC: &'static str = TAGGED;
    type Answer = usize;

    fn prepare(slot: &Slot) {
        let ring = Node::leaked();
        ring.next.store(ring.address(), Relaxed);
        slot.word.store(ring.address(), Relaxed);
    }

    #[inline(always)]
    unsafe fn plain(&self, slot: &Slot) -> Option<usize> {
        // SAFETY: pop (1), and (2) is (2).
        unsafe { plain::pop(&slot.word) }
    }

    #[inline(always)]
    unsafe fn atomic(&self, slot: &Slot) -> Option<usize> {
        // SAFETY: pop (1) is (2).
        unsafe { atomic::pop(&slot.word) }
    }

    #[inline(always)]
    fn section<I: Index, const RELEASE: bool>(
        &self,
        at: &At<'_, I, RELEASE>,
    ) -> Result<usize, Miss> {
        // SAFETY: as At says; (3) the node is never freed, and its link is at 0.
        let first = unsafe {
            at.current
                .pop(at.slots, WORD, ptr::null_mut(), 0, At::<I, RELEASE>::COMMIT)
        };
        first.map(|node| node.addr())
    }
}
