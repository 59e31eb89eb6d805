//! The state of a thread, as a number.

use core::ffi::c_int;

use rseq_rt::{Area, Error, Owner, State};

use crate::given::{area, code};

pub const UNREGISTERED: c_int = 0;
pub const REGISTERED: c_int = 1;
pub const REGISTERED_BY_LIBC: c_int = 2;
pub const UNAVAILABLE: c_int = 3;
pub const LENT: c_int = 4;
pub const EXITING: c_int = 5;

/// The state as C sees it. The reason of `Unavailable` is an errno, with a function of its own.
pub fn state_code(state: State) -> c_int {
    match state {
        State::Unregistered | State::Registered(Owner::Nobody) => UNREGISTERED,
        State::Registered(Owner::Runtime) => REGISTERED,
        State::Registered(Owner::Libc) => REGISTERED_BY_LIBC,
        State::Unavailable(_) => UNAVAILABLE,
        State::Lent => LENT,
        State::Exiting => EXITING,
    }
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. `pointer` is null, misaligned, or an area: 128 bytes, zero at first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_thread_state(pointer: *const Area) -> c_int {
    // SAFETY: area (1) is this function's.
    match unsafe { area(pointer) } {
        Ok(area) => state_code(area.state()),
        Err(error) => code(error),
    }
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. As for [`rseq_rt_thread_state`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_thread_errno(pointer: *const Area) -> c_int {
    // SAFETY: area (1) is this function's.
    match unsafe { area(pointer) } {
        // The kernel returns EINVAL, as for an invalid request.
        Ok(area) if area.is_taken() => Error::Taken.raw_os_error().into(),
        Ok(area) => area.errno().map_or(0, |errno| errno.raw().into()),
        Err(error) => code(error),
    }
}
