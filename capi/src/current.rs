//! The CPU, node and concurrency id of the calling thread.

use core::ffi::c_int;

use rseq_rt::{Area, Errno, Error};

use crate::given::{area, number};
use crate::process::PROCESS;

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. `pointer` is null, misaligned, or an area: 128 bytes, zero at first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_cpu(pointer: *const Area) -> c_int {
    // SAFETY: area (1) is this function's.
    number(unsafe { area(pointer) }.and_then(|area| PROCESS.current_cpu(area)))
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. As for [`rseq_rt_cpu`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_registered_cpu(pointer: *const Area) -> c_int {
    // SAFETY: area (1) is this function's.
    number(unsafe { area(pointer) }.and_then(|area| {
        let unknown = Error::Unavailable(Errno::NOSYS);
        area.registered_cpu().ok_or(unknown)
    }))
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. As for [`rseq_rt_cpu`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_node(pointer: *const Area) -> c_int {
    // SAFETY: area (1) is this function's.
    number(unsafe { area(pointer) }.and_then(|area| PROCESS.current_node(area)))
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. As for [`rseq_rt_cpu`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_mm_cid(pointer: *const Area) -> c_int {
    // SAFETY: area (1) is this function's.
    number(unsafe { area(pointer) }.and_then(|area| {
        let unknown = Error::Unavailable(Errno::NOSYS);
        PROCESS.current_mm_cid(area).ok_or(unknown)
    }))
}
