//! The seam under the structures: what they ask of the calling thread's critical sections.
//!
//! [`Current`] is the real one, and `None` the one of a thread that may run no section. The trait exists so that the
//! logic above can be run exhaustively against sections that are aborted, and threads that are switched, at every
//! step on demand; real runs stay beside those.

use crate::percpu::{Commit, Current, Index, Miss, Operation, Slots};

/// The comparisons that may fail in a row before an operation takes the overflow path; as many as a section is restarted.
pub(super) const MAXIMUM_TRIES: u32 = crate::percpu::RESTARTS;

/// The calling thread, as the structures see it.
///
/// # Safety
/// 1. `run` does what [`Current::run`] does, or misses.
pub unsafe trait ThreadSections<I: Index>: Copy {
    /// [`Current::id`]; `None` if the thread may run no section.
    fn index(self) -> Option<usize>;

    /// [`Current::run`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// 1. As there.
    unsafe fn run<T: Sync>(
        self,
        slots: Slots<'_, I, T>,
        operation: Operation,
        commit: Commit,
    ) -> Result<*mut u8, Miss>;

    /// Stands where another thread, or a handler, may come between two steps of an overflow path. Does nothing.
    #[inline(always)]
    fn between(self) {}
}

/// For what a later operation on the same id reads: a CPU's threads follow each other through the kernel's own barriers,
/// an id may move to another CPU at once.
pub(super) const fn commit<I: Index>() -> Commit {
    if crate::percpu::is_cpu::<I>() {
        Commit::Relaxed
    } else {
        Commit::Release
    }
}

// SAFETY: (1) it is that.
unsafe impl<I: Index> ThreadSections<I> for Current<'_, I> {
    #[inline(always)]
    fn index(self) -> Option<usize> {
        Some(self.id())
    }

    #[inline(always)]
    unsafe fn run<T: Sync>(
        self,
        slots: Slots<'_, I, T>,
        operation: Operation,
        commit: Commit,
    ) -> Result<*mut u8, Miss> {
        // SAFETY: (1).
        unsafe { Current::run(self, slots, operation, commit) }
    }
}

// SAFETY: (1) the inner one's, or a miss: `None` is what `Process::current` answers to a thread without slots.
unsafe impl<I: Index, S: ThreadSections<I>> ThreadSections<I> for Option<S> {
    #[inline(always)]
    fn index(self) -> Option<usize> {
        self.and_then(S::index)
    }

    #[inline(always)]
    unsafe fn run<T: Sync>(
        self,
        slots: Slots<'_, I, T>,
        operation: Operation,
        commit: Commit,
    ) -> Result<*mut u8, Miss> {
        match self {
            // SAFETY: (1).
            Some(sections) => unsafe { sections.run(slots, operation, commit) },
            None => Err(Miss::OutOfRange),
        }
    }

    #[inline(always)]
    fn between(self) {
        if let Some(sections) = self {
            sections.between();
        }
    }
}
