//! The time-slice extension of Linux 7.0: a thread in a short critical section asks not to be preempted just now.
//!
//! Opt in with [`Config::slice_extension`](crate::Config::slice_extension); the create hook then arms each
//! thread as it registers, since the kernel forgets the wish at unregistration. Elsewhere
//! both calls do nothing. Source: the kernel's `Documentation/userspace-api/rseq.rst`.

use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::compiler_fence;

use crate::sys::abi::{SLICE_GRANTED, SLICE_REQUEST};
use crate::sys::kernel::{Kernel, Linux};
use crate::thread::area::Area;

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SliceEnd {
    /// No extension on this thread.
    Off,
    /// Another request of this thread stood when this one was made: the outer one is in force, and ends it.
    Nested,
    /// The section ended before the kernel wanted the CPU: nothing was granted.
    NotNeeded,
    /// Granted, and given back with rseq_slice_yield(2).
    Yielded,
    /// Granted, and over before the section was: it was too long, or made a system call. Also where a filter refuses
    /// the yield.
    Revoked,
}

/// A request for an extension, to be ended by [`Area::yield_slice`].
///
/// Requests nest, in a handler or in a library that the section calls: the kernel kills, where it checks, for a
/// request that is made while a grant is out, so that an inner one does nothing, and neither does its end.
#[must_use = "the request stands until `yield_slice`"]
#[derive(Debug)]
pub struct SliceRequest(SliceEnd);

impl Area {
    /// Asks for an extension: the last thing before the section. One compare-and-exchange.
    #[inline]
    pub fn request_slice(&self) -> SliceRequest {
        if !self.has_slice_extension() {
            return SliceRequest(SliceEnd::Off);
        }
        // One instruction for both bits: between a look and a store the kernel could grant the outer request.
        let request = self
            .kernel
            .slice_ctrl
            .compare_exchange(0, SLICE_REQUEST, Relaxed, Relaxed);
        // The section's accesses stay behind the request; the kernel side is this very CPU.
        compiler_fence(SeqCst);
        match request {
            Ok(_) => SliceRequest(SliceEnd::NotNeeded),
            Err(_) => SliceRequest(SliceEnd::Nested),
        }
    }

    /// Ends the request: the first thing after the section. A system call only if an extension was granted.
    #[inline]
    pub fn yield_slice(&self, request: SliceRequest) -> SliceEnd {
        self.yield_slice_on(&Linux, request)
    }

    /// As [`Self::yield_slice`], on a kernel of the caller's choice.
    pub fn yield_slice_on<K: Kernel>(&self, kernel: &K, request: SliceRequest) -> SliceEnd {
        let SliceRequest(SliceEnd::NotNeeded) = request else {
            return request.0;
        };
        compiler_fence(SeqCst);
        let control = &self.kernel.slice_ctrl;
        // The kernel clears the request as it grants, so a request that is still there was never granted. One
        // instruction, or a grant could slip in between the look and the store.
        match control.compare_exchange(SLICE_REQUEST, 0, Relaxed, Relaxed) {
            Ok(_) => SliceEnd::NotNeeded,
            Err(seen) if seen & SLICE_GRANTED == 0 => SliceEnd::Revoked,
            // The grant may end before the call: the kernel says which it was.
            Err(_) => match kernel.slice_yield() {
                Ok(true) => SliceEnd::Yielded,
                Ok(false) | Err(_) => SliceEnd::Revoked,
            },
        }
    }
}
