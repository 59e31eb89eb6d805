//! Blocking every signal: around clone, at create and for the whole of teardown.

use core::marker::PhantomData;

use linux_raw_sys::general::SIGSYS;

use crate::sys::error::Error;
use crate::sys::kernel::{Kernel, Linux};

/// The raw set of all signals but SIGSYS: bit n-1 is signal n.
const ALL_BUT_SIGSYS: u64 = !(1 << (SIGSYS - 1));

/// Proof that all signals of the calling thread but SIGSYS are blocked, and the mask to go back to.
///
/// The kernel's raw set, not the libc's: the two signals that a libc keeps for
/// itself are blocked too. SIGKILL and SIGSTOP cannot be blocked and run no code. SIGSYS is how a filter answers
/// a system call that it traps (`SECCOMP_RET_TRAP`): where it is blocked, the kernel kills the process instead, so
/// it stays open for the calls that are made under the mask. Its handler interrupts nothing but such a call, unless
/// somebody sends SIGSYS by kill(2).
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
    /// Blocks all signals but SIGSYS, which it opens. One system call.
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
        match kernel.set_signal_mask(ALL_BUT_SIGSYS) {
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
    /// 1. All signals of the calling thread but SIGSYS are blocked, and stay so while the value lives. If SIGSYS is
    ///    blocked too, no filter traps the calls that are made with this value.
    pub const unsafe fn assume_blocked(previous: u64) -> Self {
        Self {
            previous,
            this_thread: PhantomData,
        }
    }

    /// Blocks SIGSYS as well: for the last calls of a thread, when there is no stack for a handler. One system call.
    pub(crate) fn block_sigsys_too(kernel: &impl Kernel) -> bool {
        kernel.set_signal_mask(u64::MAX).is_ok()
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
