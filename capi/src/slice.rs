//! The time-slice extension: request and end are inline, in `rseq_rt.h`.

use core::ffi::c_int;
use core::ptr::null_mut;

use rseq_rt::{Area, Kernel as _, Linux};

use crate::given::{area, code, done};
use crate::process::PROCESS;

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. `pointer` is null, misaligned, or the area of the calling thread: 128 bytes, zero at first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_slice_set(pointer: *const Area, on: c_int) -> c_int {
    // SAFETY: area (1) is (1), and so is set_slice_extension (1).
    done(unsafe { area(pointer).and_then(|area| PROCESS.set_slice_extension(area, on != 0)) })
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. of [`rseq_rt_slice_set`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_slice_get(pointer: *const Area) -> c_int {
    // SAFETY: area (1) is (1), and so is slice_extension (1).
    match unsafe { area(pointer).and_then(|area| PROCESS.slice_extension(area)) } {
        Ok(on) => on.into(),
        Err(error) => code(error),
    }
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. of [`rseq_rt_slice_set`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_slice(pointer: *const Area) -> *mut u32 {
    // SAFETY: area (1) is (1), and so is Process::slice (1); (2) is in the header.
    let slice = unsafe { area(pointer).map(|area| PROCESS.slice(area)) };
    slice.ok().flatten().map_or(null_mut(), |slice| {
        slice.as_control().cast_mut().cast::<u32>()
    })
}

/// See `rseq_rt.h`.
#[unsafe(no_mangle)]
pub extern "C" fn rseq_rt_slice_give_back() -> c_int {
    match Linux.slice_yield() {
        Ok(in_time) => in_time.into(),
        Err(errno) => -c_int::from(errno.raw()),
    }
}
