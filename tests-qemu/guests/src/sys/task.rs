//! The calling task: its clear-tid word, its user, how many tasks that user may have.

use linux_raw_sys::general::{
    __NR_prlimit64, __NR_set_tid_address, __NR_setresuid, RLIMIT_NPROC, rlimit64,
};

use super::raw::{call1, call3, call4, done};
use crate::errno::Errno;

/// set_tid_address(2): the kernel zeroes and wakes the word at the end of this task, the main one too.
///
/// # Safety
/// 1. The word stays writable until then.
pub unsafe fn set_clear_tid(word: *mut u32) {
    // SAFETY: (1).
    unsafe { call1(__NR_set_tid_address, word.expose_provenance()) };
}

/// setresuid(2), the three the same. It drops root's capabilities.
pub fn become_user(user: u32) -> Result<(), Errno> {
    let user = user as usize;
    // SAFETY: touches no memory.
    done(unsafe { call3(__NR_setresuid, user, user, user) })
}

/// RLIMIT_NPROC, the soft one; `None`: as much as the hard one allows.
pub fn limit_tasks(count: Option<u64>) -> Result<(), Errno> {
    let mut limit = rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let to = (&raw mut limit).expose_provenance();
    // SAFETY: writes the limit.
    done(unsafe { call4(__NR_prlimit64, 0, RLIMIT_NPROC as usize, 0, to) })?;
    limit.rlim_cur = count.unwrap_or(limit.rlim_max);
    let from = (&raw const limit).expose_provenance();
    // SAFETY: reads the limit.
    done(unsafe { call4(__NR_prlimit64, 0, RLIMIT_NPROC as usize, from, 0) })
}
