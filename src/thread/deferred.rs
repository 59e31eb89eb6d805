//! Memory that its own thread could not unmap: unmapped by somebody else, once the thread has ended.

use core::ptr::null_mut;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicPtr, AtomicU32};

use crate::sys::kernel::{Kernel as _, Linux, munmap};
use crate::sys::mask::SignalMask;
use crate::thread::area::Area;

/// The mappings of threads whose release was refused: a list that later threads sweep.
///
/// A `static` that the runtime places, in memory that stays writable: in sealed memory everything is leaked. The storage
/// of each entry is the area of the thread that left it.
///
/// Lock-free, and async-signal-safe: who sweeps takes the whole list, and puts back what is not over.
#[derive(Debug)]
pub struct Deferred {
    head: AtomicPtr<Area>,
}

impl Default for Deferred {
    fn default() -> Self {
        Self::new()
    }
}

impl Deferred {
    /// An empty list.
    pub const fn new() -> Self {
        Self {
            head: AtomicPtr::new(null_mut()),
        }
    }

    /// Unmaps what belonged to threads that have ended since. Returns how many mappings that were.
    ///
    /// When: before a runtime maps a new stack, or whenever it likes. System calls: none where nothing is left
    /// behind, else three and one munmap(2) for each mapping; one that is refused is forgotten. In a fork child the
    /// threads of the parent never end, so their mappings stay.
    pub fn sweep(&self) -> usize {
        let mut unmapped = 0;
        // A load first: a swap would take the line from every other thread that creates one.
        if self.head.load(Relaxed).is_null() || !self.is_writable() {
            return 0;
        }
        // SIGSYS open for munmap(2), which a filter may trap; and no handler leaves the thread with the list in its hands.
        let mask = SignalMask::block_all();
        // Acquire: what the thread wrote into its entry happened before.
        let mut next = self.head.swap(null_mut(), Acquire);
        while !next.is_null() {
            // SAFETY: an entry is an area that stays until its mapping is unmapped (push, 1), which happens below, and
            // by us alone: the list was taken as a whole.
            let area = unsafe { &*next };
            let entry = next;
            let (base, length) = (
                area.mapping.base.load(Relaxed),
                area.mapping.length.load(Relaxed),
            );
            next = area.mapping.next.load(Relaxed);
            if area.clear_tid.try_reclaim().is_some() {
                // An area that lies elsewhere is free from here on.
                area.mapping.base.store(null_mut(), Release);
                // SAFETY: munmap (1): the thread has ended, as the kernel reports, and the memory was its own (push, 2).
                unmapped += usize::from(unsafe { munmap(base, length) }.is_ok());
            } else {
                self.link(entry);
            }
        }
        if let Ok(mask) = mask {
            let _ = mask.restore();
        }
        unmapped
    }

    /// Whether the list lies in memory that takes a store: who seals a library's data may have sealed this, too.
    fn is_writable(&self) -> bool {
        let word = self.head.as_ptr().cast::<AtomicU32>();
        Linux.probe_write(word).is_ok()
    }

    /// Leaves `length` bytes at `base` to whoever sweeps once the kernel has cleared the area's clear-tid word.
    ///
    /// # Safety
    /// 1. `area` is used by nobody else until then, and nobody uses it after that.
    /// 2. The memory is the calling thread's, and nobody's after its end.
    /// 3. The clear-tid word of the calling thread is the area's.
    pub(crate) unsafe fn push(&self, area: &Area, base: *mut u8, length: usize) {
        if !self.is_writable() {
            return;
        }
        area.mapping.base.store(base, Relaxed);
        area.mapping.length.store(length, Relaxed);
        self.link((&raw const *area).cast_mut());
    }

    fn link(&self, entry: *mut Area) {
        // SAFETY: an entry that this caller alone holds: see push (1) and sweep.
        let mapping = unsafe { &(*entry).mapping };
        let mut head = self.head.load(Relaxed);
        loop {
            mapping.next.store(head, Relaxed);
            // Release: whoever takes the entry sees what is in it; those below it come along, as every change is an RMW.
            match self
                .head
                .compare_exchange_weak(head, entry, Release, Relaxed)
            {
                Ok(_) => return,
                Err(other) => head = other,
            }
        }
    }
}
