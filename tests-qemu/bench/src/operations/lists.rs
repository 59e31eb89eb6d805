//! Push and pop.

use std::ptr;
use std::sync::atomic::Ordering::Relaxed;

use rseq_rt::percpu::Operation;

use super::{Measured, WORD};
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

impl Measured for CompareLink {
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
    fn operation(&self) -> Operation {
        let link = hidden(self.node).next.as_ptr();
        Operation::CompareLinkAndStore {
            word: WORD,
            expect: 0,
            link,
            new: 0,
        }
    }
}

/// `pop`
#[derive(Default)]
pub struct Pop;

impl Measured for Pop {
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
    fn operation(&self) -> Operation {
        Operation::Pop {
            word: WORD,
            empty: ptr::null_mut(),
            link: 0,
        }
    }
}
