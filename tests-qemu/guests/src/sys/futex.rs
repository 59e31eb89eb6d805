//! futex(2), shared between processes: the kernel's clear-tid wake is, and a private wait would miss it.

use core::ptr;
use core::sync::atomic::AtomicU32;
use linux_raw_sys::general::{__NR_futex, FUTEX_WAIT, FUTEX_WAKE};

use super::raw::syscall;
use super::time::Span;
use crate::errno::Errno;

/// Sleeps while the word holds `value`, at most for `limit`. It may return early (EINTR, EAGAIN), so the caller checks
/// the word again.
pub fn wait(word: &AtomicU32, value: u32, limit: Option<Span>) -> Result<(), Errno> {
    let limit = limit.map(Span::timespec);
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: reads the word and the time.
    unsafe { syscall!(__NR_futex, word.as_ptr(), FUTEX_WAIT, value, limit, 0, 0) }.map(drop)
}

/// Wakes up to `count` sleepers. Returns their number.
pub fn wake(word: &AtomicU32, count: u32) -> Result<usize, Errno> {
    // SAFETY: touches no memory.
    unsafe { syscall!(__NR_futex, word.as_ptr(), FUTEX_WAKE, count, 0, 0, 0) }
}
