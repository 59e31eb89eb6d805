//! Stacks: one mapping each, `[guard page | stack | objects on top]`.

use core::ptr;

use crate::errno::Errno;
use crate::sys::mm::{self, Access};

/// A mapping used as a thread's stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stack {
    base: *mut u8,
    len: usize,
}

// SAFETY: an address and a length; using the memory is unsafe anyway.
unsafe impl Send for Stack {}
// SAFETY: likewise.
unsafe impl Sync for Stack {}

impl Stack {
    /// No stack: for a thread that the runtime did not start.
    pub const NONE: Self = Self {
        base: ptr::null_mut(),
        len: 0,
    };

    /// Maps `size` bytes, rounded up, and a guard page below.
    pub fn map(size: usize) -> Result<Self, Errno> {
        let page = mm::page_size();
        let len = mm::whole_pages(size).saturating_add(page);
        let base = mm::map(len, Access::ReadWrite)?;
        // SAFETY: a new mapping, so nobody uses it.
        unsafe { mm::protect(base, page, Access::None)? };
        Ok(Self { base, len })
    }

    /// The start of the mapping, guard included.
    pub fn base(&self) -> *mut u8 {
        self.base
    }

    /// The length of the mapping, guard included.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The end of the mapping, where a thread without objects on top starts.
    pub fn top(&self) -> *mut u8 {
        self.base.wrapping_add(self.len)
    }

    /// Room for a `T` below the top, aligned for it and at least to 16, so that a thread can start right below. `None`
    /// if that takes more than half of the stack.
    pub fn room_on_top<T>(&self) -> Option<*mut T> {
        let align = align_of::<T>().max(16);
        let down = self.top().addr().checked_sub(size_of::<T>())? & !(align - 1);
        let offset = down.checked_sub(self.base.addr())?;
        (offset >= self.len / 2).then(|| self.base.wrapping_add(offset).cast())
    }

    /// Is it still there? mprotect(2) says ENOMEM of what is not mapped; the lowest page is asked for the rights that it
    /// has.
    pub fn is_mapped(&self) -> bool {
        let page = mm::page_size();
        // SAFETY: protect (1) nothing changes.
        unsafe { mm::protect(self.base.wrapping_add(page), page, Access::ReadWrite) }.is_ok()
    }

    /// # Safety
    /// 1. Nobody uses the memory from here on, the kernel included: no thread runs on it or writes to it at its end.
    pub unsafe fn unmap(self) -> Result<(), Errno> {
        // SAFETY: 1.
        unsafe { mm::unmap(self.base, self.len) }
    }
}
