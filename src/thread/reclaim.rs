//! The joiner's side: the clear-tid word, and the proof that a thread's memory is free.

use core::marker::PhantomData;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

use crate::sys::error::{Errno, Error};
use crate::sys::kernel::{Kernel, Linux, munmap};

/// The word that the kernel zeroes and wakes when the thread has ended (`CLONE_CHILD_CLEARTID`).
///
/// The kernel does that after its last write to the thread's area: a task that
/// has begun to exit is skipped by the rseq code (`PF_EXITING`).
#[derive(Debug)]
#[repr(transparent)]
pub struct ClearTid(AtomicU32);

/// No tid: pid_max is at most 2^22. Stands until the kernel writes the tid, so that a joiner who comes first waits.
const NOT_YET_STARTED: u32 = u32::MAX;

impl Default for ClearTid {
    fn default() -> Self {
        Self::new()
    }
}

impl ClearTid {
    /// The word of a thread that has not started: not clear.
    pub const fn new() -> Self {
        Self(AtomicU32::new(NOT_YET_STARTED))
    }

    /// For clone(2): the `child_tid` argument, and `parent_tid` if the tid shall be readable.
    pub const fn as_ptr(&self) -> *mut u32 {
        self.0.as_ptr()
    }

    /// The thread's id while it lives, if clone was asked to store it.
    pub fn tid(&self) -> Option<u32> {
        match self.0.load(Relaxed) {
            0 | NOT_YET_STARTED => None,
            tid => Some(tid),
        }
    }

    /// The proof, if the thread has ended. No system call.
    pub fn try_reclaim(&self) -> Option<Reclaimed> {
        // Acquire: what the thread did happened before what the joiner does with its memory.
        (self.0.load(Acquire) == 0).then(Reclaimed::new)
    }

    /// Waits until the thread has ended. One waiter: the kernel wakes one.
    ///
    /// # Errors
    /// `Futex` if a filter refuses futex(2): nothing is proven.
    pub fn wait(&self) -> Result<Reclaimed, Error> {
        self.wait_on(&Linux)
    }

    /// As [`Self::wait`], on a kernel of the caller's choice.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn wait_on<K: Kernel>(&self, kernel: &K) -> Result<Reclaimed, Error> {
        loop {
            let seen = self.0.load(Acquire);
            if seen == 0 {
                return Ok(Reclaimed::new());
            }
            match kernel.futex_wait(&self.0, seen) {
                Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(Error::Futex(errno)),
            }
        }
    }

    /// Makes the word that of a thread to be started, for a record that is used again.
    pub fn rearm(&self, _proof: &Reclaimed) {
        self.arm();
    }

    /// Not clear, whatever the word says now.
    pub(crate) fn arm(&self) {
        self.0.store(NOT_YET_STARTED, Relaxed);
    }
}

/// Proof that a thread has ended and that the kernel writes to none of its memory.
///
/// It comes from [`ClearTid`] alone:
///
/// ```
/// fn free(clear_tid: &rseq_rt::ClearTid) -> Option<rseq_rt::Reclaimed> {
///     clear_tid.try_reclaim()
/// }
/// ```
///
/// ```compile_fail,E0423
/// fn free() -> rseq_rt::Reclaimed {
///     rseq_rt::Reclaimed(core::marker::PhantomData)
/// }
/// ```
#[must_use = "the memory may be reused or unmapped now"]
#[derive(Debug)]
pub struct Reclaimed(PhantomData<()>);

impl Reclaimed {
    const fn new() -> Self {
        Self(PhantomData)
    }

    /// The proof for a runtime that knows it by its own means: a libc that waits on a word of its own, a pool whose
    /// thread has released the area.
    ///
    /// # Safety
    /// 1. The kernel has reported the thread's end through clear-tid, or the thread has got
    ///    [`Gone`](crate::Gone) for the memory in question and no longer uses it.
    pub const unsafe fn assume() -> Self {
        Self::new()
    }

    /// In a fork child, the proof for the threads that were not copied: the kernel knows none of them.
    ///
    /// # Safety
    /// 1. The calling process is a fork child without `CLONE_VM`, and the memory in question
    ///    belonged to a thread of the parent other than the one that forked.
    pub const unsafe fn in_fork_child() -> Self {
        Self::new()
    }

    /// Unmaps the dead thread's memory.
    ///
    /// # Errors
    /// The errno of munmap(2).
    ///
    /// # Safety
    /// 1. The `length` bytes at `base` belonged to the thread whose end is proven, and to nobody since.
    pub unsafe fn unmap(self, base: *mut u8, length: usize) -> Result<(), Errno> {
        // SAFETY: munmap (1): by (1), and the proof.
        unsafe { munmap(base, length) }
    }
}
