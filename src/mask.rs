//! Blocking every signal: around clone, at create and for the whole of teardown.

use core::marker::PhantomData;

use crate::error::Error;
use crate::kernel::{Kernel, Linux};

/// Proof that all 64 signals of the calling thread are blocked, and the mask to go back to.
///
/// The kernel's raw set, not the libc's: the two signals that a libc keeps for
/// itself are blocked too. SIGKILL and SIGSTOP cannot be blocked and run no code.
///
/// Dropping it leaves signals blocked: an exiting thread wants just that. Two
/// of them nest: restoring the outer one opens the signals under the inner one.
///
/// It is the mask of its thread, and of no other:
///
/// ```compile_fail,E0277
/// fn restore(mask: rseq_rt::SignalMask) {
///     fn elsewhere<T: Send>(_: T) {}
///     elsewhere(mask);
/// }
/// ```
#[must_use = "signals stay blocked until `restore`"]
#[derive(Debug)]
pub struct SignalMask {
    previous: u64,
    this_thread: PhantomData<*mut ()>,
}

impl SignalMask {
    /// Blocks all signals. One system call.
    ///
    /// # Errors
    /// `NotMasked` if a filter refuses rt_sigprocmask(2).
    pub fn block_all() -> Result<Self, Error> {
        Self::block_all_on(&Linux)
    }

    /// As [`Self::block_all`], on a kernel of the caller's choice.
    ///
    /// # Errors
    /// As [`Self::block_all`].
    pub fn block_all_on<K: Kernel>(kernel: &K) -> Result<Self, Error> {
        match kernel.set_signal_mask(u64::MAX) {
            Ok(previous) => Ok(Self {
                previous,
                this_thread: PhantomData,
            }),
            Err(errno) => Err(Error::NotMasked(errno)),
        }
    }

    /// The proof for a thread that finds its signals blocked: a clone child whose parent holds a
    /// `SignalMask` around clone, or a libc that blocked them by its own means. No system call.
    ///
    /// # Safety
    /// 1. All signals of the calling thread are blocked, and stay so while the value lives.
    pub const unsafe fn assume_blocked(previous: u64) -> Self {
        Self {
            previous,
            this_thread: PhantomData,
        }
    }

    /// The mask before, bit n-1 for signal n: what a clone child passes to [`Self::assume_blocked`].
    pub const fn previous(&self) -> u64 {
        self.previous
    }

    /// Sets the mask exactly as it was. One system call.
    ///
    /// # Errors
    /// `NotMasked` if a filter refuses rt_sigprocmask(2); signals then stay blocked.
    pub fn restore(self) -> Result<(), Error> {
        self.restore_on(&Linux)
    }

    /// As [`Self::restore`], on a kernel of the caller's choice.
    ///
    /// # Errors
    /// As [`Self::restore`].
    pub fn restore_on<K: Kernel>(self, kernel: &K) -> Result<(), Error> {
        match kernel.set_signal_mask(self.previous) {
            Ok(_) => Ok(()),
            Err(errno) => Err(Error::NotMasked(errno)),
        }
    }
}
