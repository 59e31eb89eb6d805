//! Stacks: those of carriers, and those of green threads, which are mapped once and used again.

use alloc::vec::Vec;
use core::num::NonZeroUsize;
use core::ptr;

use corosensei::stack::{STACK_ALIGNMENT, StackPointer};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use rustix_futex_sync::Mutex;

/// The bytes of a stack, with what lies on top of it, without the guard.
const SIZE: usize = 64 * 1024;

/// The bytes of the guard below: pages of every size.
const GUARD: usize = 64 * 1024;

/// How many places of a page the tops of stacks are spread over, and how far apart these are.
const COLORS: usize = 16;
const COLOR: usize = 256;

/// One mapping: `[guard | stack | what was put on top]`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stack {
    base: *mut u8,
}

// SAFETY: an address; using the memory is unsafe anyway.
unsafe impl Send for Stack {}

impl Stack {
    /// The length of the mapping, with the guard.
    pub const LENGTH: usize = GUARD + SIZE;

    /// No stack: of the main thread.
    pub const NONE: Self = Self {
        base: ptr::null_mut(),
    };

    /// Maps one.
    ///
    /// # Errors
    /// What mmap(2) says.
    pub fn map() -> Result<Self, Errno> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new memory at a place of the kernel's choice, whose lowest pages nobody uses yet.
        unsafe {
            let base = mmap_anonymous(ptr::null_mut(), Self::LENGTH, access, MapFlags::PRIVATE)?;
            mprotect(base, GUARD, MprotectFlags::empty())?;
            Ok(Self { base: base.cast() })
        }
    }

    /// Where the mapping starts, with the guard.
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
        // SAFETY: munmap: (1). It is refused for no mapping of this kind.
        let _ = unsafe { munmap(self.base.cast(), Self::LENGTH) };
    }
}

/// Those that no green thread runs on.
static FREE: Mutex<Vec<Stack>> = Mutex::new(Vec::new());

/// A stack for a green thread, and the place for its record, a `T`, on top.
///
/// # Errors
/// What mmap(2) says.
pub fn take<T>() -> Result<(Stack, *mut T), Errno> {
    let free = FREE.lock().pop();
    let stack = match free {
        Some(stack) => stack,
        None => Stack::map()?,
    };
    // All stacks end at the same place of a page, and so in the same few sets of the first cache: each goes to a
    // place of its own, which follows from its address.
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

/// A stack as the coroutine sees it: from the guard up to the record.
pub struct Below {
    base: StackPointer,
    limit: StackPointer,
}

impl Below {
    /// The part of `stack` below `record`; `None` if it is none of [`take`]'s.
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
