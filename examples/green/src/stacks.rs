//! Stacks of carriers, and of green threads; the latter are mapped once and reused.

use alloc::vec::Vec;
use core::num::NonZeroUsize;
use core::ptr;

use corosensei::stack::{STACK_ALIGNMENT, StackPointer};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use rustix_futex_sync::Mutex;

/// The size of a stack in bytes, with the record on top, without the guard.
const SIZE: usize = 64 * 1024;

/// The size of the guard below: a multiple of every page size.
const GUARD: usize = 64 * 1024;

/// The number of places in a page over which the tops of stacks are spread, and the distance between them.
const COLORS: usize = 16;
const COLOR: usize = 256;

/// One mapping: `[guard | stack | record on top]`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stack {
    base: *mut u8,
}

// SAFETY: an address; using the memory is unsafe anyway.
unsafe impl Send for Stack {}

impl Stack {
    /// The length of the mapping, with the guard.
    pub const LENGTH: usize = GUARD + SIZE;

    /// No stack, for the main thread.
    pub const NONE: Self = Self {
        base: ptr::null_mut(),
    };

    /// Maps a stack.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn map() -> Result<Self, Errno> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new memory at a place of the kernel's choice, whose lowest pages nobody uses yet.
        unsafe {
            let base = mmap_anonymous(ptr::null_mut(), Self::LENGTH, access, MapFlags::PRIVATE)?;
            mprotect(base, GUARD, MprotectFlags::empty())?;
            Ok(Self { base: base.cast() })
        }
    }

    /// The start of the mapping, with the guard.
    pub fn base(&self) -> *mut u8 {
        self.base
    }

    /// The place for a `T` on top, below which a thread can start.
    pub fn room_on_top<T>(&self) -> *mut T {
        let align = const {
            assert!(size_of::<T>() <= SIZE / 4 && align_of::<T>() <= 4096);
            if align_of::<T>() > 16 {
                align_of::<T>()
            } else {
                16
            }
        };
        let top = self.base.wrapping_add(Self::LENGTH - size_of::<T>());
        top.map_addr(|top| top & !(align - 1)).cast()
    }

    /// # Safety
    /// 1. Nobody uses the memory from here on, the kernel included.
    pub unsafe fn unmap(self) {
        // SAFETY: munmap: (1). It never fails for a mapping of this kind.
        let _ = unsafe { munmap(self.base.cast(), Self::LENGTH) };
    }
}

/// Free stacks of green threads.
static FREE: Mutex<Vec<Stack>> = Mutex::new(Vec::new());

/// Takes a stack for a green thread, with the place for its record, a `T`, on top.
///
/// # Errors
/// Those of mmap(2).
pub fn take<T>() -> Result<(Stack, *mut T), Errno> {
    let free = FREE.lock().pop();
    let stack = match free {
        Some(stack) => stack,
        None => Stack::map()?,
    };
    // All stacks would end at the same place of a page, in the same few sets of the first-level cache. So each
    // starts at a place derived from its address.
    let color = stack.base.addr() / Stack::LENGTH % COLORS;
    let top = stack.room_on_top::<T>();
    Ok((stack, top.wrapping_byte_sub(color * COLOR)))
}

/// Gives a stack back.
///
/// # Safety
/// 1. It came from [`take`], and nobody uses it or its record from here on.
pub unsafe fn give_back(stack: Stack) {
    FREE.lock().push(stack);
}

/// The part of a stack used by the coroutine: from the guard up to the record.
pub struct Below {
    base: StackPointer,
    limit: StackPointer,
}

impl Below {
    /// The part of `stack` below `record`; `None` if it does not come from [`take`].
    pub fn new<T>(stack: Stack, record: *mut T) -> Option<Self> {
        let base = record.addr() & !(STACK_ALIGNMENT - 1);
        Some(Self {
            base: NonZeroUsize::new(base)?,
            limit: NonZeroUsize::new(stack.base.addr())?,
        })
    }
}

// SAFETY: the guard is the lowest part of the mapping, and above it are at least SIZE / 2 bytes.
unsafe impl corosensei::stack::Stack for Below {
    fn base(&self) -> StackPointer {
        self.base
    }

    fn limit(&self) -> StackPointer {
        self.limit
    }
}
