//! The area of a libc that owns rseq, of the calling thread.

use core::mem::offset_of;
use core::ptr::NonNull;

use crate::abi::Rseq;

/// The owner's area of the calling thread: read, and never written to but for `rseq_cs` by a critical section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForeignArea(*const u8);

impl ForeignArea {
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
