//! The at-exit callbacks of one thread.

use core::ffi::{c_int, c_void};

use rseq_rt::{AtExit, Callback, Error};

use crate::given::{done, given};

/// The maximum number of callbacks of a thread.
pub const CAPACITY: usize = 8;

/// `struct rseq_rt_at_exit`: a fixed size, with room for the data of a later version.
#[repr(C, align(8))]
pub struct Callbacks {
    stack: AtExit<CAPACITY>,
    reserved: [u64; 2],
}

/// The size that C allocates.
pub const SIZE: usize = 160;
/// The alignment that C uses.
pub const ALIGN: usize = 8;

const _: () = assert!(size_of::<Callbacks>() == SIZE && align_of::<Callbacks>() == ALIGN);

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. `pointer` is null, misaligned, or the calling thread's callbacks: zero at first.
/// 2. `function(argument)` may be called on this thread, once, at any time until it exits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_at_exit_push(
    pointer: *const Callbacks,
    function: Option<unsafe extern "C" fn(*mut c_void)>,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: given (1) is (1): zero is an empty stack.
    done(unsafe { given(pointer) }.and_then(|callbacks| {
        let function = function.ok_or(Error::NullArea)?;
        // SAFETY: Callback::new (1) is (2).
        callbacks
            .stack
            .push(unsafe { Callback::new(function, argument) })
    }))
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. `pointer` is null, misaligned, or the calling thread's callbacks: zero at first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_at_exit_run(pointer: *const Callbacks) -> c_int {
    // SAFETY: given (1) is (1).
    done(unsafe { given(pointer) }.map(|callbacks| callbacks.stack.run()))
}
