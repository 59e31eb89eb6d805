//! The sweep of a list on which one thread has ended and another has not.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering::Relaxed};

use rseq_rt::Area;

use super::shared::{Fault, must};
use crate::hooks::lifetime::kept::{self, DEFERRED, Left};
use crate::sys::mm;
use crate::sys::sched::CpuSet;

/// Behind the state word of the area.
const CLEAR_TID_OFFSET: usize = Area::STATE_OFFSET + 4;

/// The two threads, newest first on the list.
pub struct List {
    ended: Left,
    running: Left,
}

/// The fault of the broken sweep.
pub const NOT_ONE: Fault = "not one mapping was swept, but none, or one twice";

/// Mappings that handlers have unmapped.
static SWEPT: AtomicUsize = AtomicUsize::new(0);

pub fn in_handler() {
    SWEPT.fetch_add(DEFERRED.sweep(), Relaxed);
}

/// The broken sweep: a handler finds the list that it is about to take.
pub fn broken(list: &List) -> usize {
    // SAFETY: the list is one pointer.
    let head = unsafe { &*ptr::from_ref(&DEFERRED).cast::<AtomicPtr<Area>>() };
    if head.load(Relaxed).cast_const() != list.ended.area {
        return 0;
    }
    // SAFETY: unmap (1) its thread has ended.
    let unmapped = unsafe { mm::unmap(list.ended.stack.base(), list.ended.stack.len()) };
    head.store(list.running.area.cast_mut(), Relaxed);
    usize::from(unmapped.is_ok())
}

impl List {
    pub fn new() -> Self {
        SWEPT.store(0, Relaxed);
        let running = kept::leave(CpuSet::empty());
        // Before the other thread, whose exit sweeps.
        set_running(&running, 1);
        let ended = kept::leave(CpuSet::empty());
        Self { ended, running }
    }

    /// Checks the result of a sweep that unmapped `swept` mappings.
    pub fn judge(&self, swept: usize) -> Result<(), Fault> {
        let swept = swept + SWEPT.load(Relaxed);
        must(swept == 1, NOT_ONE)?;
        must(
            !self.ended.stack.is_mapped(),
            "the memory of the ended thread is left",
        )?;
        must(
            self.running.stack.is_mapped(),
            "memory went before its thread",
        )?;
        set_running(&self.running, 0);
        let is_kept = DEFERRED.sweep() == 1 && !self.running.stack.is_mapped();
        must(is_kept, "the running thread was lost from the list")
    }
}

/// Writes a thread's clear-tid word; the kernel writes 0 at its end.
fn set_running(left: &Left, word: u32) {
    // SAFETY: in the area, which is mapped until the list is swept with a word of 0.
    let clear_tid = unsafe { left.area.cast::<u8>().add(CLEAR_TID_OFFSET) };
    // SAFETY: as above; the crate accesses it atomically too.
    unsafe { &*clear_tid.cast::<AtomicU32>() }.store(word, Relaxed);
}
