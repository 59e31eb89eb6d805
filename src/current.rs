//! Where the current thread runs: a load where rseq is registered, getcpu(2) where it is not.

use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

use crate::abi::{FEATURE_SIZE_MM_CID, FEATURE_SIZE_NODE_ID, Rseq};
use crate::area::Area;
use crate::error::Error;
use crate::foreign::ForeignArea;
use crate::kernel::Kernel;
use crate::process::Process;
use crate::state::{Owner, State};

/// All reads are async-signal-safe, and a moment old when they return: the thread may migrate at any time.
impl<K: Kernel> Process<K> {
    /// The CPU that the calling thread runs on. `area` is its own.
    ///
    /// # Errors
    /// `Unavailable` if the thread has no rseq and a filter refuses getcpu(2).
    #[inline]
    pub fn current_cpu(&self, area: &Area) -> Result<u32, Error> {
        match area.registered_cpu() {
            Some(cpu) => Ok(cpu),
            None => self.cpu_without_own_area(area),
        }
    }

    /// The NUMA node of that CPU: a load from Linux 6.3 on.
    ///
    /// # Errors
    /// As [`Self::current_cpu`].
    pub fn current_node(&self, area: &Area) -> Result<u32, Error> {
        if self.fields() >= FEATURE_SIZE_NODE_ID {
            if area.is_registered() {
                return Ok(area.kernel.node_id.load(Relaxed));
            }
            if let Some(foreign) = self.foreign_area(area) {
                // SAFETY: ForeignArea::word (1) by foreign_area, (2) by the size above.
                return Ok(unsafe { foreign.word(offset_of!(Rseq, node_id)) });
            }
        }
        self.getcpu().map(|(_, node)| node)
    }

    /// The concurrency id of the calling thread (Linux 6.3): dense per process, for per-CPU-like data that stays small.
    ///
    /// `None` where the kernel has none or the thread is not registered: no system call tells it.
    #[inline]
    pub fn current_mm_cid(&self, area: &Area) -> Option<u32> {
        if self.fields() < FEATURE_SIZE_MM_CID {
            None
        } else if area.is_registered() {
            Some(area.kernel.mm_cid.load(Relaxed))
        } else {
            // SAFETY: ForeignArea::word (1) by foreign_area, (2) by the size above.
            self.foreign_area(area)
                .map(|foreign| unsafe { foreign.word(offset_of!(Rseq, mm_cid)) })
        }
    }

    #[cold]
    fn cpu_without_own_area(&self, area: &Area) -> Result<u32, Error> {
        if let Some(foreign) = self.foreign_area(area) {
            // SAFETY: ForeignArea::cpu_id (1) by foreign_area.
            let cpu = unsafe { foreign.cpu_id() };
            if let Ok(cpu) = u32::try_from(cpu) {
                return Ok(cpu);
            }
        }
        self.getcpu().map(|(cpu, _)| cpu)
    }

    fn getcpu(&self) -> Result<(u32, u32), Error> {
        self.kernel.getcpu().map_err(Error::Unavailable)
    }

    /// Where the visible owner's area of the calling thread is, for critical sections.
    #[cold]
    pub(crate) fn foreign_rseq(&self, area: &Area) -> Option<NonNull<Rseq>> {
        self.foreign_area(area).and_then(ForeignArea::as_rseq)
    }

    /// The visible owner's area of the calling thread, if this thread is that owner's.
    fn foreign_area(&self, area: &Area) -> Option<ForeignArea> {
        (area.state() == State::Registered(Owner::Libc))
            .then(|| self.foreign_place())
            .flatten()
            // A thread that the libc did not register (its filter came late) still shows -1 or -2.
            // SAFETY: ForeignArea::cpu_id (1), as above.
            .filter(|foreign| unsafe { foreign.cpu_id() } >= 0)
    }

    /// Where the visible owner's area of each of its threads is: at one offset from the thread pointer, says the trio.
    fn foreign_place(&self) -> Option<ForeignArea> {
        // No libc has its area at the thread pointer itself.
        (self.foreign_offset() != 0).then(|| {
            // SAFETY: thread_pointer (1): asked of threads that a libc owns, and that has set one up.
            let pointer = unsafe { self.kernel.thread_pointer() };
            ForeignArea::at(pointer, self.foreign_offset())
        })
    }

    /// The address of that area, of the calling thread.
    pub(crate) fn foreign_address(&self) -> Option<usize> {
        let place = self.foreign_place().and_then(ForeignArea::as_rseq);
        place.map(|rseq| rseq.addr().get())
    }
}
