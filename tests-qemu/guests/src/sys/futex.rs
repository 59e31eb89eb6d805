//! futex(2), shared between processes: the kernel's wake at clear-tid is so,
//! and a private wait would sleep through it.

use core::ptr;
use core::sync::atomic::AtomicU32;
use linux_raw_sys::general::{__NR_futex, FUTEX_WAIT, FUTEX_WAKE};

use super::raw::syscall;
use super::time::Span;
use crate::errno::Errno;

/// Sleeps while the word holds `value`, `limit` at most. Comes back early too
/// (EINTR, EAGAIN), so the caller looks at the word again.
pub fn wait(word: &AtomicU32, value: u32, limit: Option<Span>) -> Result<(), Errno> {
    let limit = limit.map(Span::timespec);
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: reads the word and the time.
    unsafe { syscall!(__NR_futex, word.as_ptr(), FUTEX_WAIT, value, limit, 0, 0) }.map(drop)
}

/// Wakes up to `count` sleepers; how many there were.
pub fn wake(word: &AtomicU32, count: u32) -> Result<usize, Errno> {
    // SAFETY: touches no memory.
    unsafe { syscall!(__NR_futex, word.as_ptr(), FUTEX_WAKE, count, 0, 0, 0) }
}
