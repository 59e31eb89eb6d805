//! The test's own calls, which pass its filter: marked in the sixth argument, which none of them uses.

use linux_raw_sys::general::{
    __NR_getpid, __NR_munmap, __NR_rseq, __NR_rt_sigprocmask, SIG_SETMASK,
};
use rseq_rt::{Area, arch};

use crate::errno::Errno;
use crate::sys::raw::{call6, check};
use crate::witness::Known;

/// A value that no register holds by accident.
pub const MARK: u32 = 0x5eed_f117;
/// The number of the marked argument.
pub const NTH: u32 = 5;

/// # Safety
/// 1. As for the call itself.
unsafe fn call(nr: u32, a: usize, b: usize, c: usize, d: usize) -> Result<usize, Errno> {
    // SAFETY: 1.; and getpid(2), which touches no memory.
    check(unsafe {
        let answer = call6(nr, a, b, c, d, 0, MARK as usize);
        // Clears the mark from the register, for a later call of the crate that has fewer arguments.
        call6(__NR_getpid, 0, 0, 0, 0, 0, 0);
        answer
    })
}

/// As [`crate::witness::ask`].
pub fn ask(area: &Area, length: u32) -> Known {
    let at = core::ptr::from_ref(area).expose_provenance();
    let signature = arch::SIGNATURE as usize;
    // SAFETY: (1) a registration that is undone at once if it succeeds.
    unsafe {
        match call(__NR_rseq, at, length as usize, 0, signature) {
            Ok(_) => {
                let _ = call(__NR_rseq, at, length as usize, 1, signature);
                Known::Nothing
            }
            Err(Errno::BUSY) => Known::This,
            Err(_) => Known::Other,
        }
    }
}

/// # Safety
/// 1. Nobody uses the memory from here on, the kernel included.
pub unsafe fn unmap(base: *mut u8, length: usize) -> Result<(), Errno> {
    // SAFETY: (1) is this function's.
    unsafe { call(__NR_munmap, base.expose_provenance(), length, 0, 0) }.map(drop)
}

/// rt_sigprocmask(2): sets exactly this mask.
pub fn mask(mask: u64) {
    let from = (&raw const mask).expose_provenance();
    // SAFETY: (1) reads the mask.
    let _ = unsafe { call(__NR_rt_sigprocmask, SIG_SETMASK as usize, from, 0, 8) };
}
