//! The time-slice extension of Linux 7.0: a thread in a short critical section asks not to be preempted just now.
//!
//! Opt in with [`Config::slice_extension`](crate::Config::slice_extension); the create hook then arms each
//! thread as it registers, since the kernel forgets the wish at unregistration. Elsewhere
//! both calls do nothing. Source: the kernel's `Documentation/userspace-api/rseq.rst`.

use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::compiler_fence;

use crate::area::Area;
use crate::kernel::{Kernel, Linux};

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SliceEnd {
    /// No extension on this thread.
    Off,
    /// The section ended before the kernel wanted the CPU: nothing was granted.
    NotNeeded,
    /// Granted, and given back with rseq_slice_yield(2).
    Yielded,
    /// Granted, and over before the section was: it was too long, or made a system call. Also where nothing
    /// was requested, which looks the same, and where a filter refuses the yield.
    Revoked,
}

impl Area {
    /// Asks for an extension: the last thing before the section. A store.
    #[inline]
    pub fn request_slice(&self) {
        if self.has_slice_extension() {
            self.kernel.slice_ctrl.request.store(1, Relaxed);
            // The section's accesses stay behind the request; the kernel side is this very CPU.
            compiler_fence(SeqCst);
        }
    }

    /// Ends the request: the first thing after the section. A system call only if an extension was granted.
    #[inline]
    pub fn yield_slice(&self) -> SliceEnd {
        self.yield_slice_on(&Linux)
    }

    /// As [`Self::yield_slice`], on a kernel of the caller's choice.
    pub fn yield_slice_on<K: Kernel>(&self, kernel: &K) -> SliceEnd {
        if !self.has_slice_extension() {
            return SliceEnd::Off;
        }
        compiler_fence(SeqCst);
        let control = &self.kernel.slice_ctrl;
        // The kernel clears the request as it grants, so a request that is still there was never granted. One
        // instruction, or a grant could slip in between the look and the store.
        if control.request.swap(0, Relaxed) != 0 {
            return SliceEnd::NotNeeded;
        }
        if control.granted.load(Relaxed) == 0 {
            return SliceEnd::Revoked;
        }
        match kernel.slice_yield() {
            Ok(()) => SliceEnd::Yielded,
            Err(_) => SliceEnd::Revoked,
        }
    }
}
