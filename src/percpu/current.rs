//! The proof that the calling thread may run sections.

use core::marker::PhantomData;
use core::ptr::NonNull;

use super::{CpuId, Index};
use crate::percpu::holder::Holder;
use crate::process::Process;
use crate::sys::abi::Rseq;
use crate::sys::kernel::Kernel;
use crate::thread::Thread;
use crate::thread::area::Area;

/// How often an operation that is aborted starts again before it says so.
pub const RESTARTS: u32 = 16;

/// The proof that the calling thread may run critical sections over slots that are numbered by `I`.
///
/// It holds the address of the registered area: the runtime's own, or a libc's (which wrote the same signature). It
/// belongs to the kernel thread: a green thread fetches it anew after every switch, and nobody keeps it over a
/// vfork, the end of a scope or an exit hook. A stale one by CPU number finds no slot (-1 is none); one by concurrency id
/// would find slot 0, where the area of a thread that is not registered has it. Builds with debug assertions panic where
/// it is used on another thread than it was fetched on, at the price of a gettid(2) for each use.
///
/// ```compile_fail,E0277
/// fn elsewhere<T: Send>(_: T) {}
/// fn green(current: rseq_rt::percpu::Current<'static>) {
///     elsewhere(current);
/// }
/// ```
#[derive(Debug)]
pub struct Current<'a, I: Index = CpuId> {
    pub(crate) rseq: NonNull<Rseq>,
    restarts: usize,
    holder: Holder,
    this_thread: PhantomData<(&'a Area, *mut (), I)>,
}

impl<I: Index> Copy for Current<'_, I> {}

impl<I: Index> Clone for Current<'_, I> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: Kernel> Process<K> {
    /// The calling thread, if it may run sections: it is registered, by this runtime or by a libc that shows its
    /// area; it is neither exiting nor lent to a vfork child; [`Self::allow_sections`] has allowed them; and the kernel
    /// fills the field that `I` names. Else `None`, and the caller takes the path that needs no slot.
    ///
    /// No system call; async-signal-safe.
    ///
    /// # Safety
    /// 1. `area` is the one that the calling thread gave to the create hook, or to `ensure_registered`.
    /// 2. The value is not used any more once the thread has been lent ([`Thread::lend`]), has ended its
    ///    registration (an exit hook, the end of a scope), or runs another green thread.
    #[inline]
    pub unsafe fn current<'a, I: Index>(&'a self, area: &'a Area) -> Option<Current<'a, I>> {
        if !self.runs_sections() {
            return None;
        }
        // The feature size: a length that fell back to 32 still has it, and 6.2 and before do not.
        if I::FEATURE_SIZE > CpuId::FEATURE_SIZE && self.fields() < I::FEATURE_SIZE {
            return None;
        }
        self.registered_rseq(area).map(Current::new)
    }

    /// The structure that the kernel writes for the calling thread, whose area this is, if this runtime or a libc has registered it.
    #[inline(always)]
    pub(crate) fn registered_rseq(&self, area: &Area) -> Option<NonNull<Rseq>> {
        if area.is_registered() {
            return Some(NonNull::from(&area.kernel));
        }
        self.libc_rseq(area)
    }
}

impl<K: Kernel> Thread<'_, K> {
    /// This thread, if it may run sections. See [`Process::current`].
    ///
    /// It cannot outlive the thread's exit hook:
    ///
    /// ```compile_fail,E0505
    /// fn leave(thread: rseq_rt::Thread<'_>) {
    ///     let current = thread.current::<rseq_rt::percpu::CpuId>();
    ///     let _exit = thread.on_exit(rseq_rt::ExitMode::Keep);
    ///     let _ = current.map(|current| current.id());
    /// }
    /// ```
    ///
    /// # Safety
    /// 1. As (2) of [`Process::current`], for loans and green threads; the compiler sees to the rest.
    #[inline]
    pub unsafe fn current<I: Index>(&self) -> Option<Current<'_, I>> {
        // SAFETY: Process::current (1) a thread has its own area, (2) by (1).
        unsafe { self.process().current(self.area()) }
    }
}

impl<I: Index> Current<'_, I> {
    #[inline(always)]
    fn new(rseq: NonNull<Rseq>) -> Self {
        Self {
            rseq,
            restarts: RESTARTS as usize,
            holder: Holder::calling(),
            this_thread: PhantomData,
        }
    }

    /// With another bound than [`RESTARTS`]; 0 for a single try.
    #[inline]
    pub const fn restarts(mut self, restarts: u32) -> Self {
        self.restarts = restarts as usize;
        self
    }

    /// The id of this moment, to look into a slot before an operation compares with what was seen there. The operation
    /// itself may run on another one, and compares there.
    #[inline]
    pub fn id(&self) -> usize {
        self.assert_thread();
        let field = self.rseq.as_ptr().cast::<u8>().wrapping_add(I::OFFSET);
        // SAFETY: a field of an area that the kernel fills; it changes behind our back.
        let id = unsafe { field.cast::<u32>().read_volatile() };
        id as usize
    }

    /// The kernel's structure, for sections of one's own: they store to `rseq_cs` in it, and to nothing else.
    #[inline]
    pub const fn as_rseq(&self) -> *const Rseq {
        self.rseq.as_ptr()
    }

    /// In builds with debug assertions: the calling thread is the one that fetched this.
    #[inline(always)]
    pub(crate) fn assert_thread(&self) {
        self.holder.assert();
    }

    #[inline(always)]
    pub(crate) const fn bound(&self) -> usize {
        self.restarts
    }
}
