//! The time-slice extension of Linux 7.0: a thread in a short critical section asks not to be preempted just now.
//!
//! Opt in with [`Config::slice_extension`](crate::Config::slice_extension); the create hook then arms each
//! thread as it registers, since the kernel forgets the wish at unregistration. A thread that a libc has registered, or one that
//! wants it later, arms itself by [`Process::set_slice_extension`]. Elsewhere requests do nothing. Source: the kernel's
//! `Documentation/userspace-api/rseq.rst`.

use core::marker::PhantomData;
use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicU32, compiler_fence};

use crate::process::Process;
use crate::process::state::State;
use crate::sys::abi::{
    CS_FLAG_SLICE_EXT_ENABLED, FEATURE_SIZE_SLICE_CTRL, Rseq, SLICE_GRANTED, SLICE_REQUEST, field,
};
use crate::sys::error::{Errno, Error};
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
    /// Ended by the kernel: a grant ran out or met a system call, or the thread was preempted, moved or signalled
    /// before it had one. Also where a filter refuses the yield.
    Revoked,
}

/// A request for an extension, to be ended by [`Area::yield_slice`] or [`Slice::end`].
///
/// Requests nest, in a handler or in a library that the section calls: the kernel kills, where it checks, for a
/// request that is made while a grant is out, so that an inner one does nothing, and neither does its end.
#[must_use = "the request stands until `yield_slice`"]
#[derive(Debug)]
pub struct SliceRequest(SliceEnd);

/// The extension of the calling thread, where it is on: in this runtime's area or in a libc's.
///
/// It belongs to the kernel thread, as [`Current`](crate::percpu::Current) does.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a> {
    control: &'a AtomicU32,
    this_thread: PhantomData<*mut ()>,
}

impl Slice<'_> {
    /// Asks for an extension: the last thing before the section. One compare-and-exchange.
    #[inline]
    pub fn request(&self) -> SliceRequest {
        // One instruction for both bits: between a look and a store the kernel could grant the outer request.
        let request = self
            .control
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
    pub fn end(&self, request: SliceRequest) -> SliceEnd {
        self.end_on(&Linux, request)
    }

    /// As [`Self::end`], on a kernel of the caller's choice.
    pub fn end_on<K: Kernel>(&self, kernel: &K, request: SliceRequest) -> SliceEnd {
        end(self.control, kernel, request)
    }

    /// The word that the kernel and the thread share: [`SLICE_REQUEST`], [`SLICE_GRANTED`] or 0.
    #[inline]
    pub const fn as_control(&self) -> *const AtomicU32 {
        self.control
    }
}

fn end<K: Kernel>(control: &AtomicU32, kernel: &K, request: SliceRequest) -> SliceEnd {
    let SliceRequest(SliceEnd::NotNeeded) = request else {
        return request.0;
    };
    compiler_fence(SeqCst);
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

impl Area {
    /// Asks for an extension: the last thing before the section. One compare-and-exchange.
    #[inline]
    pub fn request_slice(&self) -> SliceRequest {
        match self.slice() {
            Some(slice) => slice.request(),
            None => SliceRequest(SliceEnd::Off),
        }
    }

    /// Ends the request: the first thing after the section. A system call only if an extension was granted.
    #[inline]
    pub fn yield_slice(&self, request: SliceRequest) -> SliceEnd {
        self.yield_slice_on(&Linux, request)
    }

    /// As [`Self::yield_slice`], on a kernel of the caller's choice.
    pub fn yield_slice_on<K: Kernel>(&self, kernel: &K, request: SliceRequest) -> SliceEnd {
        end(&self.kernel.slice_ctrl, kernel, request)
    }

    #[inline]
    fn slice(&self) -> Option<Slice<'_>> {
        self.has_slice_extension().then_some(Slice {
            control: &self.kernel.slice_ctrl,
            this_thread: PhantomData,
        })
    }
}

impl<K: Kernel> Process<K> {
    /// The calling thread, if the extension is on for it: in this runtime's area, or in that of a libc that shows one and whose
    /// `__rseq_size` reaches that far. No system call; async-signal-safe.
    ///
    /// # Safety
    /// 1. and 2. of [`Self::current`].
    #[inline]
    pub unsafe fn slice<'a>(&'a self, area: &'a Area) -> Option<Slice<'a>> {
        area.slice().or_else(|| self.slice_of_libc(area))
    }

    #[cold]
    fn slice_of_libc<'a>(&'a self, area: &'a Area) -> Option<Slice<'a>> {
        let rseq = self.with_control(self.libc_rseq(area))?;
        if !is_enabled(rseq) {
            return None;
        }
        let control = field(rseq, offset_of!(Rseq, slice_ctrl));
        Some(Slice {
            // SAFETY: with_control: a word of an area that is there while the thread is, changed by atomics.
            control: unsafe { AtomicU32::from_ptr(control) },
            this_thread: PhantomData,
        })
    }

    /// An area of the calling thread, if its owner has registered the control word with it.
    fn with_control(&self, rseq: Option<NonNull<Rseq>>) -> Option<NonNull<Rseq>> {
        rseq.filter(|_| self.fields() >= FEATURE_SIZE_SLICE_CTRL)
    }

    /// Switches the extension on or off for the calling thread, whoever has registered it, while no request stands:
    /// prctl(2), `PR_RSEQ_SLICE_EXTENSION`. System calls: 1.
    ///
    /// # Errors
    /// `NotCreated`, `Lent`, `Exiting`; `Unavailable` with `NOSYS` where the thread is not registered, its registration has no
    /// room for it (32 bytes), or the kernel lacks it or has it switched off; with another errno, a filter's. Nothing is changed.
    ///
    /// # Safety
    /// 1. `area` is the one that the calling thread gave to the create hook, or to `ensure_registered`.
    pub unsafe fn set_slice_extension(&self, area: &Area, on: bool) -> Result<(), Error> {
        let rseq = self.slice_place(area)?;
        self.kernel.set_slice_extension(on).map_err(unavailable)?;
        let is_on = is_enabled(rseq);
        area.word.set_slice(is_on);
        // "Success" that changed nothing was a pretended one.
        if is_on == on { Ok(()) } else { Err(NOT_HERE) }
    }

    /// Is it on for the calling thread? The kernel's answer: `false` where it has the extension switched off. System
    /// calls: 1.
    ///
    /// # Errors
    /// As [`Self::set_slice_extension`], otherwise.
    ///
    /// # Safety
    /// 1. of [`Self::set_slice_extension`].
    pub unsafe fn slice_extension(&self, area: &Area) -> Result<bool, Error> {
        self.slice_place(area)?;
        self.kernel.slice_extension().map_err(unavailable)
    }

    /// The area that the extension is asked for, or why there is none.
    fn slice_place(&self, area: &Area) -> Result<NonNull<Rseq>, Error> {
        match area.state() {
            State::Unregistered => Err(Error::NotCreated),
            State::Lent => Err(Error::Lent),
            State::Exiting => Err(Error::Exiting),
            State::Unavailable(_) => Err(NOT_HERE),
            State::Registered(_) => self
                .with_control(self.registered_rseq(area))
                .ok_or(NOT_HERE),
        }
    }
}

const NOT_HERE: Error = Error::Unavailable(Errno::NOSYS);

/// A kernel that is built without it answers EINVAL, one that has it switched off ENOTSUPP, which is no errno of user
/// space; a registration of 32 bytes, ENOTSUPP or ENXIO.
fn unavailable(errno: Errno) -> Error {
    const ENXIO: u16 = 6;
    const ENOTSUPP: u16 = 524;
    match errno.raw() {
        ENXIO | ENOTSUPP => NOT_HERE,
        _ if errno == Errno::INVAL => NOT_HERE,
        _ => Error::Unavailable(errno),
    }
}

fn is_enabled(rseq: NonNull<Rseq>) -> bool {
    let flags = field::<u32>(rseq, offset_of!(Rseq, flags));
    // SAFETY: in every registered area. Volatile: the kernel writes it.
    let flags = unsafe { flags.read_volatile() };
    flags & CS_FLAG_SLICE_EXT_ENABLED != 0
}
