//! The calling thread's handle for critical sections. The operations themselves are inline, in `rseq_rt_percpu.h`.

use core::ffi::c_int;
use core::ptr::null_mut;

use rseq_rt::Area;
use rseq_rt::abi::Rseq;
use rseq_rt::percpu::{CpuId, Current, Index, MmCid};
use rseq_rt::structures::CpuSet;

use crate::given::{area, done};
use crate::process::PROCESS;

/// See `rseq_rt_percpu.h`.
#[unsafe(no_mangle)]
pub extern "C" fn rseq_rt_allow_sections() -> c_int {
    PROCESS.allow_sections() as c_int
}

/// See `rseq_rt_percpu.h`.
#[unsafe(no_mangle)]
pub extern "C" fn rseq_rt_sections() -> c_int {
    PROCESS.section_support() as c_int
}

/// # Safety
/// 1. As for [`rseq_rt_current`].
unsafe fn current<I: Index>(pointer: *const Area) -> *mut Rseq {
    // SAFETY: area (1) is this function's.
    let Ok(area) = (unsafe { area(pointer) }) else {
        return null_mut();
    };
    // SAFETY: Process::current (1) the caller's; (2) is in the header.
    let current: Option<Current<'_, I>> = unsafe { PROCESS.current(area) };
    current.map_or(null_mut(), |current| current.as_rseq().cast_mut())
}

/// See `rseq_rt_percpu.h`.
///
/// # Safety
/// 1. `pointer` is null, misaligned, or the calling thread's area: 128 bytes, zero at first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_current(pointer: *const Area) -> *mut Rseq {
    // SAFETY: current (1) is this function's.
    unsafe { current::<CpuId>(pointer) }
}

/// See `rseq_rt_percpu.h`.
///
/// # Safety
/// 1. As for [`rseq_rt_current`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_current_mm_cid(pointer: *const Area) -> *mut Rseq {
    // SAFETY: current (1) is this function's.
    unsafe { current::<MmCid>(pointer) }
}

/// See `rseq_rt_percpu.h`.
///
/// # Safety
/// 1. As for [`rseq_rt_current`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_prepare_unload(pointer: *const Area) -> c_int {
    // SAFETY: area (1) is (1), and so is prepare_unload (1).
    done(unsafe { area(pointer).map(|area| PROCESS.prepare_unload(area)) })
}

/// See `rseq_rt_percpu.h`.
#[unsafe(no_mangle)]
pub extern "C" fn rseq_rt_cpu_bound() -> usize {
    CpuSet::bound().unwrap_or(0)
}

/// See `rseq_rt_percpu.h`.
#[unsafe(no_mangle)]
pub extern "C" fn rseq_rt_possible_cpu_bound() -> usize {
    CpuSet::possible_bound().unwrap_or(0)
}
