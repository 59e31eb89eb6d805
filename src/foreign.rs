//! What a libc that owns rseq offers: `__rseq_offset`, `__rseq_size`, `__rseq_flags`.
//!
//! The meaning is glibc's, from its manual ("Restartable Sequences") and 2.41 release notes.

use core::mem::offset_of;
use core::ptr::NonNull;

use crate::abi::{LEGACY_LENGTH, Rseq};
use crate::arch;
use crate::area::load_cpu_id;
use crate::interpreter;

/// A copy of the three values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trio {
    /// From the thread pointer to the area, in bytes.
    pub offset: isize,
    /// 0: nothing registered. 20 or 32: the original area. Else: the feature size.
    pub size: u32,
    /// Registration flags; 0.
    pub flags: u32,
}

/// Addresses of the three symbols; each null where no object of the process defines it.
#[derive(Clone, Copy, Debug)]
pub struct TrioAddresses {
    /// `ptrdiff_t __rseq_offset`.
    pub offset: *const isize,
    /// `unsigned int __rseq_size`.
    pub size: *const u32,
    /// `unsigned int __rseq_flags`.
    pub flags: *const u32,
}

impl TrioAddresses {
    /// What the weak references of this program lead to; where they lead nowhere, what the dynamic linker defines.
    pub(crate) fn find() -> Self {
        let weak = arch::weak_trio();
        if weak.size.is_null() {
            interpreter::trio()
        } else {
            weak
        }
    }
}

impl Trio {
    /// Reads the three values, if all three symbols exist.
    ///
    /// # Safety
    /// 1. Each non-null address is that of a variable of its type.
    pub unsafe fn load(at: TrioAddresses) -> Option<Self> {
        if at.offset.is_null() || at.size.is_null() || at.flags.is_null() {
            return None;
        }
        // SAFETY: not null, and (1). Volatile: the owner writes them once, at its own start, behind our back.
        unsafe {
            Some(Self {
                offset: at.offset.read_volatile(),
                size: at.size.read_volatile(),
                flags: at.flags.read_volatile(),
            })
        }
    }

    /// How many bytes of the owner's area hold valid fields.
    ///
    /// glibc before 2.41 says 20 or 32 for the original 32-byte area whatever the kernel fills.
    pub const fn usable_size(&self, kernel_feature_size: u32) -> u32 {
        match self.size {
            20 | LEGACY_LENGTH if kernel_feature_size < LEGACY_LENGTH => kernel_feature_size,
            20 | LEGACY_LENGTH => LEGACY_LENGTH,
            exact => exact,
        }
    }
}

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
        // SAFETY: (1): cpu_id is in every area, at this offset.
        unsafe { load_cpu_id(self.0.wrapping_add(offset_of!(Rseq, cpu_id)).cast()) }
    }

    /// # Safety
    /// 1. As [`Self::cpu_id`].
    /// 2. `field` is the offset of a 32-bit field below the usable size.
    pub(crate) unsafe fn word(self, field: usize) -> u32 {
        // SAFETY: (1, 2). Volatile: the kernel changes it under us.
        unsafe { self.0.wrapping_add(field).cast::<u32>().read_volatile() }
    }
}
