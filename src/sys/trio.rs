//! The exports of a libc that owns rseq: `__rseq_offset`, `__rseq_size`, `__rseq_flags`.
//!
//! The meaning is glibc's, from its manual ("Restartable Sequences") and 2.41 release notes.

use crate::sys::abi::LEGACY_LENGTH;

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
            exact if exact != 20 && exact != LEGACY_LENGTH => exact,
            _ if kernel_feature_size < LEGACY_LENGTH => kernel_feature_size,
            _ => LEGACY_LENGTH,
        }
    }
}
