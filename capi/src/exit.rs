//! The death of a thread, and what becomes of its area.

use core::ffi::c_int;

use rseq_rt::arch::exit_thread;
use rseq_rt::{Area, ClearTidPlace, Error, Reclaimed, State, Thread};

use crate::given::{area, done, masked};
use crate::process::PROCESS;

/// The calling thread, found by its area: C cannot carry the value from the create hook.
///
/// # Safety
/// 1. `pointer` is null, misaligned, or an area: 128 bytes, zero at first.
/// 2. The area, if it was created, was created by the calling thread, and no other `Thread` of it is in use.
pub unsafe fn this_thread<'a>(pointer: *const Area) -> Result<Thread<'a>, Error> {
    // SAFETY: area (1) is (1); current_thread (1, 2) are (2).
    unsafe { area(pointer).and_then(|area| PROCESS.current_thread(area)) }
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. and 2. of [`this_thread`].
/// 3. The memory outlives the thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_on_thread_exit_keep(pointer: *const Area) -> c_int {
    // SAFETY: this_thread (1, 2) are this function's.
    done(unsafe { this_thread(pointer) }.map(Thread::on_exit_keep))
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. to 3. of [`rseq_rt_on_thread_exit_keep`].
/// 4. All signals of the calling thread are blocked, and stay so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_on_thread_exit_keep_masked(pointer: *const Area) -> c_int {
    // SAFETY: this_thread (1, 2) are this function's; masked (1) is (4).
    unsafe { done(this_thread(pointer).map(|thread| thread.on_exit_keep_masked(&masked()))) }
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. and 2. of [`this_thread`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_on_thread_exit_release(pointer: *const Area) -> c_int {
    // SAFETY: this_thread (1, 2) are this function's.
    let thread = unsafe { this_thread(pointer) };
    done(thread.and_then(|thread| thread.on_exit_release().map_err(|kept| kept.error())))
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. and 2. of [`this_thread`].
/// 3. All signals of the calling thread are blocked, and stay so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_on_thread_exit_release_masked(pointer: *const Area) -> c_int {
    // SAFETY: this_thread (1, 2) are this function's; masked (1) is (3).
    let (thread, mask) = unsafe { (this_thread(pointer), masked()) };
    done(thread.and_then(|thread| {
        thread
            .on_exit_release_masked(&mask)
            .map_err(|kept| kept.error())
    }))
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. and 2. of [`this_thread`].
/// 3. Nobody but this thread uses the `length` bytes at `base`, the kernel not either once rseq and clear-tid
///    are out of it: the robust list lies elsewhere or was unregistered, a foreign owner's area lies elsewhere.
/// 4. Nobody waits for the clear-tid word of this thread, and `base` is page-aligned.
/// 5. Nobody expects the values on this thread's stack to be dropped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_unmap_and_exit(
    pointer: *const Area,
    base: *mut u8,
    length: usize,
) -> ! {
    // SAFETY: this_thread (1, 2) are this function's.
    match unsafe { this_thread(pointer) }.map(Thread::on_exit_release) {
        // SAFETY: unmap_and_exit (1, 3) are (3), (2) is always true of a word that is to be forgotten by (4),
        // (4) is (5), and (5) holds since nothing lies between.
        Ok(Ok(gone)) => unsafe { gone.unmap_and_exit(base, length, ClearTidPlace::Inside, 0) },
        // The kernel still writes to the area, at every switch: a leak, and not a SIGSEGV with all signals blocked.
        // SAFETY: Kept::exit (1) is (5).
        Ok(Err(refused)) => unsafe { refused.into_kept().exit(0) },
        // Not an area that was created and is in use: nothing is proven, so nothing is unmapped.
        // SAFETY: exit_thread (1) is (5).
        Err(_) => unsafe { exit_thread(0) },
    }
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. `pointer` is null, misaligned, or an area: 128 bytes, zero at first.
/// 2. Its thread has ended, as the kernel reports through clear-tid, or has been told 0 by a
///    release hook and does not use the area any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_recycle(pointer: *const Area) -> c_int {
    // SAFETY: area (1) is this function's.
    done(unsafe { area(pointer) }.and_then(|area| {
        // A live one: its ids are the kernel's, and Linux 7.0 kills for a store to them.
        if let State::Registered(rseq_rt::Owner::Runtime) | State::Lent = area.state() {
            return Err(Error::Lent);
        }
        // SAFETY: Reclaimed::assume (1) and recycle (1) are (2).
        unsafe { Reclaimed::assume().recycle(area) };
        Ok(())
    }))
}
