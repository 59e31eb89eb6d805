//! Around a child that shares the memory.

use core::ffi::c_int;

use rseq_rt::{Area, Error, Lent};

use crate::exit::this_thread;
use crate::given::{area, code, done};

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. `pointer` is null, misaligned, or the area of the calling thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_vfork_begin(pointer: *const Area) -> c_int {
    // SAFETY: this_thread (1, 2) are (1): the value does not leave this function.
    match unsafe { this_thread(pointer) } {
        Ok(thread) => thread.lend().into_raw().into(),
        Err(error) => code(error),
    }
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. `pointer` is null, misaligned, or the area of the calling thread.
/// 2. The child no longer shares the memory: it has executed another program, or ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_vfork_end(pointer: *const Area, token: c_int) -> c_int {
    // SAFETY: area (1) is (1).
    done(unsafe { area(pointer) }.and_then(|area| {
        u16::try_from(token)
            .ok()
            // SAFETY: Lent::from_raw (1): it checks the number, and a loan that was ended is not there to be ended
            // again; (2) is (2).
            .and_then(|token| unsafe { Lent::from_raw(area, token) })
            .map(Lent::end)
            .ok_or(Error::NotCreated)
    }))
}
