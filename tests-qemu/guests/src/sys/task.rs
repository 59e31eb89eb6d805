//! The calling task: its clear-tid word, its user, the limit on that user's tasks.

use linux_raw_sys::general::{
    __NR_prlimit64, __NR_set_tid_address, __NR_setresuid, RLIMIT_NPROC, rlimit64,
};

use super::raw::syscall;
use crate::errno::Errno;

/// set_tid_address(2): the kernel zeroes and wakes the word at the end of this task, even the main one.
///
/// # Safety
/// 1. The word stays writable until then.
pub unsafe fn set_clear_tid(word: *mut u32) {
    // SAFETY: (1).
    let _ = unsafe { syscall!(__NR_set_tid_address, word) };
}

/// setresuid(2) of all three ids. It drops root's capabilities.
pub fn become_user(user: u32) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { syscall!(__NR_setresuid, user, user, user) }.map(drop)
}

/// The soft RLIMIT_NPROC; `None`: as high as the hard one.
pub fn limit_tasks(count: Option<u64>) -> Result<(), Errno> {
    let mut limit = rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: writes the limit.
    unsafe { syscall!(__NR_prlimit64, 0, RLIMIT_NPROC, 0, &raw mut limit) }?;
    limit.rlim_cur = count.unwrap_or(limit.rlim_max);
    // SAFETY: reads the limit.
    unsafe { syscall!(__NR_prlimit64, 0, RLIMIT_NPROC, &raw const limit, 0) }.map(drop)
}
