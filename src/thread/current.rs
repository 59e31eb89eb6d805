//! Where the current thread runs: a load where rseq is registered, getcpu(2) where it is not.

use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

use crate::process::Process;
use crate::process::state::{Owner, State};
use crate::sys::abi::{FEATURE_SIZE_MM_CID, FEATURE_SIZE_NODE_ID, Rseq};
use crate::sys::error::Error;
use crate::sys::kernel::Kernel;
use crate::thread::area::Area;

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
            if let Some(libc) = self.libc_area(area) {
                // SAFETY: LibcArea::word (1) by libc_area, (2) by the size above.
                return Ok(unsafe { libc.word(offset_of!(Rseq, node_id)) });
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
            // SAFETY: LibcArea::word (1) by libc_area, (2) by the size above.
            self.libc_area(area)
                .map(|libc| unsafe { libc.word(offset_of!(Rseq, mm_cid)) })
        }
    }

    #[cold]
    fn cpu_without_own_area(&self, area: &Area) -> Result<u32, Error> {
        if let Some(libc) = self.libc_area(area) {
            // SAFETY: LibcArea::cpu_id (1) by libc_area.
            let cpu = unsafe { libc.cpu_id() };
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
    pub(crate) fn libc_rseq(&self, area: &Area) -> Option<NonNull<Rseq>> {
        self.libc_area(area).and_then(LibcArea::as_rseq)
    }

    /// The visible owner's area of the calling thread, if this thread is that owner's.
    fn libc_area(&self, area: &Area) -> Option<LibcArea> {
        (area.state() == State::Registered(Owner::Libc))
            .then(|| self.libc_area_of_thread())
            .flatten()
    }

    /// The same for a thread that the libc has registered, also under a loan and at the exit.
    fn libc_area_of_thread(&self) -> Option<LibcArea> {
        self.libc_place()
            // A thread that the libc did not register (its filter came late) still shows -1 or -2.
            // SAFETY: LibcArea::cpu_id (1), as above.
            .filter(|libc| unsafe { libc.cpu_id() } >= 0)
    }

    /// Where the visible owner's area of each of its threads is: at one offset from the thread pointer, says the trio.
    fn libc_place(&self) -> Option<LibcArea> {
        // No libc has its area at the thread pointer itself.
        (self.libc_offset() != 0).then(|| {
            // SAFETY: thread_pointer (1): asked of threads that a libc owns, and that has set one up.
            let pointer = unsafe { self.kernel.thread_pointer() };
            LibcArea::at(pointer, self.libc_offset())
        })
    }

    /// Where the registration of the calling thread is, if it was ever this runtime's or the libc's: also under a loan and at
    /// the exit, when the kernel still reads it.
    pub(crate) fn read_by_kernel(&self, area: &Area) -> Option<NonNull<Rseq>> {
        let seen = area.word.look();
        if seen.is_of_libc() {
            self.libc_area_of_thread().and_then(LibcArea::as_rseq)
        } else {
            seen.is_written().then(|| NonNull::from(&area.kernel))
        }
    }

    /// The address of the libc's area of the calling thread; 0 where none is known.
    pub(crate) fn libc_address(&self) -> usize {
        self.libc_place().map_or(0, |LibcArea(area)| area.addr())
    }
}

/// The owner's area of the calling thread: read, and never written to but for `rseq_cs`, by a critical section and before an
/// unload, and the control word of the slice extension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LibcArea(*const u8);

impl LibcArea {
    pub(crate) fn at(thread_pointer: *const u8, offset: isize) -> Self {
        Self(thread_pointer.wrapping_offset(offset))
    }

    /// The address. A section stores to `rseq_cs` there, which is what every user of rseq in a thread may do, and to
    /// nothing else.
    pub(crate) fn as_rseq(self) -> Option<NonNull<Rseq>> {
        NonNull::new(self.0.cast_mut().cast())
    }

    /// # Safety
    /// 1. The owner's area of the calling thread is here.
    pub(crate) unsafe fn cpu_id(self) -> i32 {
        // SAFETY: word (1) is (1); (2): cpu_id is in every area.
        unsafe { self.word(offset_of!(Rseq, cpu_id)) as i32 }
    }

    /// # Safety
    /// 1. As [`Self::cpu_id`].
    /// 2. `field` is the offset of a 32-bit field below the usable size.
    pub(crate) unsafe fn word(self, field: usize) -> u32 {
        // SAFETY: (1, 2). Volatile: the kernel changes it under us.
        unsafe { self.0.wrapping_add(field).cast::<u32>().read_volatile() }
    }
}
