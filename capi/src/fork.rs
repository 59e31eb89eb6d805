//! Loans around a child that shares the memory, and the repair in a fork child.

use core::ffi::c_int;

use rseq_rt::{Area, Error, Lent};

use crate::given::{area, code, done};
use crate::process::PROCESS;
use crate::state::state_code;

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. `pointer` is null, misaligned, or the area of the calling thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_vfork_begin(pointer: *const Area) -> c_int {
    // SAFETY: area (1) is (1), and so is Lent::of (1).
    unsafe { area(pointer).map(|area| Lent::of(area)) }
        .map_or_else(code, |lent| lent.into_raw().into())
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
        u8::try_from(token)
            .ok()
            // SAFETY: Lent::from_raw (1): it checks the number, and a loan that has ended cannot be ended again; (2)
            // is (2).
            .and_then(|token| unsafe { Lent::from_raw(area, token) })
            .map(Lent::end)
            .ok_or(Error::NotCreated)
    }))
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. `pointer` is null, misaligned, or the area of the calling thread, for which the conditions of the create hook hold.
/// 2. The calling process is a fork child without `CLONE_VM`, and none of its own children shares its memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_repair_in_fork_child(pointer: *const Area) -> c_int {
    // SAFETY: area (1) is (1); repair_in_fork_child (1) is (1), (2) is (2); (3): the end of a loan that does not exist
    // is refused.
    match unsafe { area(pointer).map(|area| PROCESS.repair_in_fork_child(area)) } {
        Ok(state) => state_code(state),
        Err(error) => code(error),
    }
}
