//! Arguments of a C caller, checked as far as possible without a system call.

use core::ffi::c_int;
use core::ptr::NonNull;

use rseq_rt::{Area, Error, SignalMask};

/// The error for C: negative.
pub fn code(error: Error) -> c_int {
    -c_int::from(error.raw_os_error())
}

/// The result for C: 0, or negative.
pub fn done<T>(outcome: Result<T, Error>) -> c_int {
    match outcome {
        Ok(_) => 0,
        Err(error) => code(error),
    }
}

/// A number for C that is not negative.
pub fn number(outcome: Result<u32, Error>) -> c_int {
    outcome.map_or_else(code, |number| number as c_int)
}

/// A pointer that is neither null nor misaligned. What it points to is the caller's word, as everywhere in C.
pub fn checked<T>(pointer: *mut T) -> Result<NonNull<T>, Error> {
    match NonNull::new(pointer) {
        None => Err(Error::NullArea),
        Some(pointer) if !pointer.is_aligned() => Err(Error::MisalignedArea),
        Some(pointer) => Ok(pointer),
    }
}

/// The caller's memory: [`checked`].
///
/// # Safety
/// 1. If not null and aligned, it is `T::SIZE` bytes that are zero or a `T`, and stay one for `'a`.
pub unsafe fn given<'a, T>(pointer: *const T) -> Result<&'a T, Error> {
    // SAFETY: not null, aligned, and (1).
    checked(pointer.cast_mut()).map(|pointer| unsafe { pointer.as_ref() })
}

/// The area of the calling thread. See [`given`].
///
/// # Safety
/// 1. As for [`given`].
pub unsafe fn area<'a>(pointer: *const Area) -> Result<&'a Area, Error> {
    // SAFETY: given (1) is this function's.
    unsafe { given(pointer) }
}

/// The mask vouched for by the callers of the `_masked` functions.
///
/// # Safety
/// 1. All signals of the calling thread but SIGSYS are blocked, and stay so while the value lives.
pub unsafe fn masked() -> SignalMask {
    // SAFETY: assume_blocked (1) is this function's. Nobody restores this mask, so its content does not matter.
    unsafe { SignalMask::assume_blocked(u64::MAX) }
}
