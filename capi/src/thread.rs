//! The create hooks of a thread.

use core::ffi::c_int;

use rseq_rt::Area;

use crate::exit::DEFERRED;
use crate::given::{area, code, done, masked};
use crate::process::PROCESS;
use crate::state::state_code;

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. `pointer` is null, misaligned, or an area: 128 bytes, zero at first.
/// 2. The area belongs to the calling thread and to no other until it is recycled.
/// 3. Its memory is not unmapped or reused before a release hook has returned 0 or the kernel has reported
///    the thread's end through clear-tid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_on_thread_create(pointer: *const Area) -> c_int {
    DEFERRED.sweep();
    // SAFETY: area (1) is this function's; on_thread_create (1) is (2), (2) is (3); the value is dropped here, (3).
    unsafe { done(area(pointer).and_then(|area| PROCESS.on_thread_create(area))) }
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. to 3. of [`rseq_rt_on_thread_create`].
/// 4. All signals of the calling thread but SIGSYS are blocked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_on_thread_create_masked(pointer: *const Area) -> c_int {
    DEFERRED.sweep();
    // SAFETY: as above; masked (1) is (4).
    unsafe { done(area(pointer).and_then(|area| PROCESS.on_thread_create_masked(area, &masked()))) }
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. to 3. of [`rseq_rt_on_thread_create`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_ensure_registered(pointer: *const Area) -> c_int {
    // SAFETY: area (1) is this function's; ensure_registered (1) is (2), (2) is (3).
    match unsafe { area(pointer).and_then(|area| PROCESS.ensure_registered(area)) } {
        Ok(state) => state_code(state),
        Err(error) => code(error),
    }
}
