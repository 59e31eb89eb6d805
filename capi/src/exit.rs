//! The exit hooks of a thread, and the reuse of its area.

use core::ffi::{c_int, c_uint};

use rseq_rt::arch::exit_thread;
use rseq_rt::{Area, ClearTidPlace, Deferred, Error, Exit, ExitMode, Reclaimed, State, Thread};

use crate::given::{area, code, done, masked};
use crate::process::PROCESS;

pub const KEEP: c_uint = 0;
pub const RELEASE: c_uint = 1;

pub const RELEASED: c_int = 0;
pub const KEPT: c_int = 1;

/// The memory of threads whose release was refused.
pub static DEFERRED: Deferred = Deferred::new();

/// The calling thread, found by its area: C cannot carry the value from the create hook.
///
/// # Safety
/// 1. `pointer` is null, misaligned, or an area: 128 bytes, zero at first.
/// 2. The area, if it was created, was created by the calling thread, and no other `Thread` of it is in use.
unsafe fn this_thread<'a>(pointer: *const Area) -> Result<Thread<'a>, Error> {
    // SAFETY: area (1) is (1); current_thread (1, 2) are (2).
    unsafe { area(pointer).and_then(|area| PROCESS.current_thread(area)) }
}

/// As [`this_thread`], with the mode as a value.
///
/// # Safety
/// 1. and 2. of [`this_thread`].
unsafe fn leaving<'a>(pointer: *const Area, mode: c_uint) -> Result<(Thread<'a>, ExitMode), Error> {
    let mode = match mode {
        KEEP => ExitMode::Keep,
        RELEASE => ExitMode::Release,
        _ => return Err(Error::MisalignedArea),
    };
    // SAFETY: this_thread (1, 2) are this function's.
    unsafe { this_thread(pointer) }.map(|thread| (thread, mode))
}

fn answer(exit: Result<Exit<'_>, Error>) -> c_int {
    match exit {
        Ok(Exit::Released(_)) => RELEASED,
        Ok(Exit::Kept(_)) => KEPT,
        Err(error) => code(error),
    }
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. and 2. of [`this_thread`].
/// 3. Unless this returns 0, the memory outlives the thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_on_thread_exit(pointer: *const Area, mode: c_uint) -> c_int {
    // SAFETY: leaving (1, 2) are this function's.
    answer(unsafe { leaving(pointer, mode) }.map(|(thread, mode)| thread.on_exit(mode)))
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. to 3. of [`rseq_rt_on_thread_exit`].
/// 4. All signals of the calling thread but SIGSYS are blocked, and stay so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_on_thread_exit_masked(
    pointer: *const Area,
    mode: c_uint,
) -> c_int {
    // SAFETY: leaving (1, 2) are this function's; masked (1) is (4).
    let (leaving, mask) = unsafe { (leaving(pointer, mode), masked()) };
    answer(leaving.map(|(thread, mode)| thread.on_exit_masked(mode, &mask)))
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. and 2. of [`this_thread`].
/// 3. Nobody but this thread uses the `length` bytes at `base`, nor does the kernel once rseq and clear-tid no longer
///    use them: the robust list lies elsewhere or was unregistered.
/// 4. Nobody waits for the clear-tid word of this thread, and `base` is page-aligned.
/// 5. Nobody expects the values on this thread's stack to be dropped.
/// 6. Nobody uses the area any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_unmap_and_exit(
    pointer: *const Area,
    base: *mut u8,
    length: usize,
) -> ! {
    // SAFETY: this_thread (1, 2) are this function's.
    match unsafe { this_thread(pointer) } {
        // SAFETY: unmap_and_exit (1, 3) are (3), (2) is (4): a word that is forgotten, and nobody waits; (4) is (5),
        // (5) is (6).
        Ok(thread) => unsafe {
            thread.on_exit(ExitMode::Release).unmap_and_exit(
                base,
                length,
                ClearTidPlace::Inside,
                &DEFERRED,
                0,
            )
        },
        // The area was not created or is not in use: there is no proof, so nothing is unmapped.
        // SAFETY: exit_thread (1) is (5).
        Err(_) => unsafe { exit_thread(0) },
    }
}

/// See `rseq_rt.h`.
#[unsafe(no_mangle)]
pub extern "C" fn rseq_rt_sweep() -> usize {
    DEFERRED.sweep()
}

/// See `rseq_rt.h`.
///
/// # Safety
/// 1. `pointer` is null, misaligned, or an area: 128 bytes, zero at first.
/// 2. Its thread has ended, as the kernel reports through clear-tid, or the exit hook has returned 0 to it
///    and it does not use the area any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rseq_rt_recycle(pointer: *const Area) -> c_int {
    // SAFETY: area (1) is this function's.
    done(
        unsafe { area(pointer) }.and_then(|area| match area.state() {
            State::Exiting if !area.is_deferred() => {
                // SAFETY: Reclaimed::assume (1) and recycle (1) are (2).
                unsafe { Reclaimed::assume().recycle(area) };
                Ok(())
            }
            State::Unregistered => Err(Error::NotCreated),
            // In use: its ids belong to the kernel, and Linux 7.0 kills for a store to them.
            _ => Err(Error::Busy),
        }),
    )
}
