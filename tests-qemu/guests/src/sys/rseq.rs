//! rseq(2) and membarrier(2), raw: for tests that act as a foreign owner or check the kernel's own answers.

use linux_raw_sys::general::{__NR_membarrier, __NR_rseq};

use super::raw::syscall;
use crate::errno::Errno;

/// # Safety
/// 1. The kernel may write `len` bytes at `area` until it is unregistered or the thread has ended.
/// 2. If it replaces a registration that other code relies on, that code tolerates it.
pub unsafe fn rseq(area: *mut u8, len: u32, flags: u32, signature: u32) -> Result<(), Errno> {
    // SAFETY: 1., 2.
    unsafe { syscall!(__NR_rseq, area, len, flags, signature) }.map(drop)
}

pub fn membarrier(command: i32, flags: u32, cpu: i32) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { syscall!(__NR_membarrier, command, flags, cpu) }.map(drop)
}
