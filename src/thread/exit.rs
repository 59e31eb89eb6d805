//! The answers of the exit hook, and the exits that take them.

use core::marker::PhantomData;

use crate::arch;
use crate::sys::error::Error;
use crate::sys::kernel::{Linux, set_tid_address};
use crate::sys::mask::SignalMask;
use crate::thread::area::Area;
use crate::thread::deferred::Deferred;

/// The fate of the memory of a thread that exits. See [`Thread::on_exit`](crate::Thread::on_exit).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitMode {
    /// It outlives the thread: whoever waits for clear-tid frees it.
    ///
    /// The kernel stops writing to the area when the task begins to exit, before it zeroes and wakes the clear-tid
    /// word, so that unregistering would be a wasted system call.
    Keep,
    /// It goes before the thread does: the thread unmaps it, or hands it to a pool.
    Release,
}

/// How a thread may end. From [`Thread::on_exit`](crate::Thread::on_exit).
#[must_use = "the thread is to exit now"]
#[derive(Debug)]
pub enum Exit<'a> {
    /// The kernel no longer writes to the area: the memory may go.
    Released(Gone<'a>),
    /// The memory must outlive the thread.
    Kept(Kept<'a>),
}

/// Proof that this thread may exit *if its memory outlives it*.
#[must_use = "the thread is to exit now"]
#[derive(Debug)]
pub struct Kept<'a> {
    area: &'a Area,
    why: Option<Error>,
    this_thread: PhantomData<*mut ()>,
}

/// Where the thread's clear-tid word lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClearTidPlace {
    /// Outside the memory that is unmapped; the kernel zeroes and wakes it at exit.
    Outside,
    /// Inside it, or anywhere if nobody waits for it. The kernel is told to forget it (set_tid_address(2)) before the
    /// unmap: it would otherwise write to whatever another thread maps there in the meantime.
    Inside,
}

/// Proof that the kernel no longer writes to this thread's area.
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
    /// The libc's area of this thread, where the kernel goes on writing; 0 where none is known.
    libc: usize,
    this_thread: PhantomData<*mut ()>,
}

impl<'a> Exit<'a> {
    /// The weaker proof: the memory stays, whatever the hook could do.
    pub fn into_kept(self) -> Kept<'a> {
        match self {
            Self::Released(gone) => Kept::new(gone.area, None),
            Self::Kept(kept) => kept,
        }
    }

    /// Unmaps the memory that holds the calling thread's stack, at once or later, and ends the thread.
    ///
    /// A released thread does it by itself, as [`Gone::unmap_and_exit`]. The memory of one that was kept goes to
    /// `deferred`, to be unmapped by a later sweep, this function's first step included. With the clear-tid word outside it
    /// is left to whoever waits for that word. Where set_tid_address(2) is refused, it is leaked.
    /// System calls: 4 (set_tid_address, mask, munmap, exit), 3 with the clear-tid word outside.
    ///
    /// # Safety
    /// 1. to 4. of [`Gone::unmap_and_exit`], until the sweep has unmapped the memory.
    /// 5. The area is not used again until then.
    pub unsafe fn unmap_and_exit(
        self,
        base: *mut u8,
        length: usize,
        clear_tid: ClearTidPlace,
        deferred: &'static Deferred,
        status: i32,
    ) -> ! {
        deferred.sweep();
        match self {
            // SAFETY: Gone::unmap_and_exit (1, 2, 3, 4) are this function's.
            Self::Released(gone) if !gone.libc_writes_to(base, length) => unsafe {
                gone.unmap_and_exit(base, length, clear_tid, status)
            },
            exit => {
                let kept = exit.into_kept();
                // A word that somebody waits for cannot be exchanged for ours: whoever waits has the proof, and unmaps.
                // SAFETY: set_tid_address (1): the area stays until it is unmapped; (2): (2), a word that is to
                // be forgotten. Deferred::push (1, 2): (5) and (1); (3): the call has succeeded.
                unsafe {
                    kept.area.clear_tid.arm();
                    if clear_tid == ClearTidPlace::Inside
                        && set_tid_address(kept.area.clear_tid.as_ptr())
                    {
                        deferred.push(kept.area, base, length);
                    }
                    kept.exit(status)
                }
            }
        }
    }
}

impl<'a> Kept<'a> {
    pub(crate) const fn new(area: &'a Area, why: Option<Error>) -> Self {
        Self {
            area,
            why,
            this_thread: PhantomData,
        }
    }

    /// Why a release was not granted: `StillRegistered` or `NotMasked` where a filter refuses, `Taken`. `None` where
    /// *keep* was asked for.
    pub const fn why(&self) -> Option<Error> {
        self.why
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

impl<'a> Gone<'a> {
    pub(crate) const fn new(area: &'a Area, libc: usize) -> Self {
        Self {
            area,
            libc,
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
    /// From the unmap on no stack is touched and no signal is delivered, SIGSYS included: a filter that traps munmap(2)
    /// or exit(2) kills. Where munmap(2) is refused, or what has to come before it, or where the libc's own area of this
    /// thread lies in that memory, the memory leaks and the thread ends all the same.
    /// System calls: 4 (set_tid_address, mask, munmap, exit), 3 with the clear-tid word outside.
    ///
    /// # Safety
    /// 1. Nobody but this thread uses the `length` bytes at `base`, nor does the kernel. `base` is page-aligned.
    /// 2. The clear-tid word lies where `clear_tid` says, and nobody waits for one inside.
    /// 3. The robust futex list lies outside, or was unregistered (set_robust_list(2)).
    /// 4. Nobody expects the values on this thread's stack to be dropped.
    /// 5. Nothing has opened signals since the exit hook: an outer [`SignalMask::restore`] does. Where the hook was the
    ///    masked one, nothing before it had either.
    pub unsafe fn unmap_and_exit(
        self,
        base: *mut u8,
        length: usize,
        clear_tid: ClearTidPlace,
        status: i32,
    ) -> ! {
        // Before SIGSYS is blocked, as a filter may trap it; and its answer is looked at: the kernel would zero a
        // word in what is somebody else's memory by then.
        // SAFETY: set_tid_address (1): null; (2): (2).
        let forgotten = clear_tid == ClearTidPlace::Outside
            || unsafe { set_tid_address(core::ptr::null_mut()) };
        if !forgotten || self.libc_writes_to(base, length) || !SignalMask::block_sigsys_too(&Linux)
        {
            // SAFETY: arch::exit_thread (1) is this function's (4).
            unsafe { arch::exit_thread(status) }
        }
        // SAFETY: arch::unmap_and_exit (1) is (1, 3), with `self` and the two calls above for the kernel's part and
        // the mask and (5) for the handlers'; (2) is (4).
        unsafe { arch::unmap_and_exit(base, length, status) }
    }

    /// Does the libc's area of this thread lie in that memory, a stack that it was given by its user, say?
    fn libc_writes_to(&self, base: *mut u8, length: usize) -> bool {
        self.libc != 0 && self.libc.wrapping_sub(base.addr()) < length
    }
}
