//! Around a child that shares the memory.

use core::ffi::c_int;

use rseq_rt::{Area, Error, Lent, State};

use crate::given::{area, code, done};

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. `pointer` is null, misaligned, or the area of the calling thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_vfork_begin(pointer: *const Area) -> c_int {
    // SAFETY: area (1) is (1).
    let lent = unsafe { area(pointer) }.and_then(|area| match area.state() {
        State::Exiting => Err(Error::Exiting),
        State::Lent => Err(Error::Lent),
        // SAFETY: Lent::of (1) is (1).
        _ => Ok(unsafe { Lent::of(area) }),
    });
    lent.map_or_else(code, |lent| lent.into_raw().into())
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
