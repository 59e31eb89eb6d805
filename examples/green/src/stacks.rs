//! The stacks of green threads, mapped once and used again.

use alloc::vec::Vec;
use core::num::NonZeroUsize;

use corosensei::stack::{STACK_ALIGNMENT, StackPointer};
use guests::errno::Errno;
use guests::stack::Stack;
use rustix_futex_sync::Mutex;

use crate::green::Green;

/// The bytes of a green thread's stack, its record included, without the guard page.
const SIZE: usize = 64 * 1024;

/// How many places of a page the tops of stacks are spread over, and how far apart these are.
const COLORS: usize = 16;
const COLOR: usize = 256;

/// Those that no green thread runs on.
static FREE: Mutex<Vec<Stack>> = Mutex::new(Vec::new());

/// A stack for a green thread, and the place for its record on top: `[guard | stack | record]`.
///
/// # Errors
/// What mmap(2) says.
pub fn take() -> Result<(Stack, *mut Green), Errno> {
    let free = FREE.lock().pop();
    let stack = match free {
        Some(stack) => stack,
        None => Stack::map(SIZE)?,
    };
    let top = stack.room_on_top::<Green>().ok_or(Errno::NOMEM)?;
    // All stacks end at the same place of a page, and so in the same few sets of the first cache: each goes to a
    // place of its own, which follows from its address.
    let color = stack.base().addr() / stack.len().max(1) % COLORS;
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
    pub fn new(stack: Stack, record: *mut Green) -> Option<Self> {
        let base = record.addr() & !(STACK_ALIGNMENT - 1);
        Some(Self {
            base: NonZeroUsize::new(base)?,
            limit: NonZeroUsize::new(stack.base().addr())?,
        })
    }
}

// SAFETY: the guard page is the lowest of the mapping, and above it are at least SIZE / 2 bytes.
unsafe impl corosensei::stack::Stack for Below {
    fn base(&self) -> StackPointer {
        self.base
    }

    fn limit(&self) -> StackPointer {
        self.limit
    }
}
