//! What an exit hook proves, and the exits that take the proof.

use core::marker::PhantomData;

use crate::arch;
use crate::area::Area;
use crate::error::Error;
use crate::mask::SignalMask;

/// Proof that this thread may exit *if its memory outlives it*. From [`Thread::on_exit_keep`](crate::Thread::on_exit_keep).
#[must_use = "the thread is to exit now"]
#[derive(Debug)]
pub struct Kept {
    this_thread: PhantomData<*mut ()>,
}

impl Kept {
    pub(crate) const fn new() -> Self {
        Self {
            this_thread: PhantomData,
        }
    }

    /// Ends the calling thread, and no other: exit(2). The joiner waits for clear-tid.
    ///
    /// # Safety
    /// 1. Nobody expects the values on this thread's stack to be dropped.
    pub unsafe fn exit(self, status: i32) -> ! {
        // SAFETY: arch::exit_thread (1) is this function's (1).
        unsafe { arch::exit_thread(status) }
    }
}

/// The area could not be released; the thread may exit if its memory outlives it, as after *keep*.
#[must_use = "the memory must outlive the thread"]
#[derive(Debug)]
pub struct NotReleased {
    error: Error,
    kept: Kept,
}

impl NotReleased {
    pub(crate) const fn new(error: Error) -> Self {
        Self {
            error,
            kept: Kept::new(),
        }
    }

    /// `StillRegistered` or `NotMasked`.
    pub const fn error(&self) -> Error {
        self.error
    }

    /// The proof that is left: leave the memory to whoever waits for clear-tid.
    pub fn into_kept(self) -> Kept {
        self.kept
    }
}

/// Where the thread's clear-tid word lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClearTidPlace {
    /// Outside the memory that is unmapped; the kernel zeroes and wakes it at exit.
    Outside,
    /// Inside it. The kernel is told to forget it (set_tid_address(2)) before the unmap: it would
    /// otherwise write to whatever another thread maps there in the meantime.
    Inside,
}

/// Proof that the kernel no longer writes to this thread's area. From [`Thread::on_exit_release`](crate::Thread::on_exit_release).
///
/// The one way to unmap the own stack, and a thread that was kept has none:
///
/// ```
/// use rseq_rt::{ClearTidPlace, Gone};
///
/// unsafe fn leave(proof: Gone<'_>, base: *mut u8, length: usize) -> ! {
///     unsafe { proof.unmap_and_exit(base, length, ClearTidPlace::Outside, 0) }
/// }
/// ```
///
/// ```compile_fail,E0599
/// use rseq_rt::{ClearTidPlace, Kept};
///
/// unsafe fn leave(proof: Kept, base: *mut u8, length: usize) -> ! {
///     unsafe { proof.unmap_and_exit(base, length, ClearTidPlace::Outside, 0) }
/// }
/// ```
///
/// Nor does the proof of one thread serve another:
///
/// ```compile_fail,E0277
/// fn leave(proof: rseq_rt::Gone<'static>) {
///     fn elsewhere<T: Send>(_: T) {}
///     elsewhere(proof);
/// }
/// ```
#[must_use = "the thread is to exit now"]
#[derive(Debug)]
pub struct Gone<'a> {
    area: &'a Area,
    masked: bool,
    this_thread: PhantomData<*mut ()>,
}

impl<'a> Gone<'a> {
    pub(crate) const fn new(area: &'a Area, masked: bool) -> Self {
        Self {
            area,
            masked,
            this_thread: PhantomData,
        }
    }

    /// Makes the area a new one, to be handed to another thread or given back to its allocator.
    ///
    /// The stack under this thread's feet stays its own until clear-tid.
    ///
    /// # Safety
    /// 1. No signal handler of this thread uses rseq any more: they are blocked, or do not.
    pub unsafe fn recycle_area(&self) {
        self.area.reset();
    }

    /// Ends the calling thread, and no other: exit(2).
    ///
    /// # Safety
    /// 1. Nobody expects the values on this thread's stack to be dropped.
    pub unsafe fn exit(self, status: i32) -> ! {
        // SAFETY: arch::exit_thread (1) is this function's (1).
        unsafe { arch::exit_thread(status) }
    }

    /// Unmaps the memory that holds the calling thread's stack, and ends the thread.
    ///
    /// Between the two no stack is touched and no signal is delivered. If
    /// munmap(2) refuses, the memory leaks and the thread ends all the same.
    ///
    /// # Safety
    /// 1. Nobody but this thread uses the `length` bytes at `base`, the kernel not either: under a
    ///    foreign owner, its area of this thread lies outside. `base` is page-aligned.
    /// 2. `clear_tid` says the truth.
    /// 3. The robust futex list lies outside, or was unregistered (set_robust_list(2)).
    /// 4. Nobody expects the values on this thread's stack to be dropped.
    /// 5. Where the exit hook was a masked one, all signals are blocked now; where it was not, nothing has opened them
    ///    since. An outer [`SignalMask::restore`], before the hook or after it, opens them.
    pub unsafe fn unmap_and_exit(
        self,
        base: *mut u8,
        length: usize,
        clear_tid: ClearTidPlace,
        status: i32,
    ) -> ! {
        // Under a foreign owner the exit hook made no system call, so the mask is still to come. Without it
        // a handler could run on the vanished stack: leak the memory instead.
        if !self.masked && SignalMask::block_all().is_err() {
            // SAFETY: arch::exit_thread (1) is this function's (4).
            unsafe { arch::exit_thread(status) }
        }
        // SAFETY: arch::unmap_and_exit (1) is this function's (1), with `self` for the kernel's part and the mask and
        // (5) for the handlers'; (2) is (2) and (3); (3) is (4).
        unsafe {
            arch::unmap_and_exit(
                base,
                length,
                status,
                (clear_tid == ClearTidPlace::Inside) as usize,
            )
        }
    }
}
