//! The thread that fetched a [`Current`](super::Current): known where debug assertions are on, and nothing elsewhere.
//!
//! It is asked of the kernel. The thread pointer would be no answer: a runtime need not have one, and a green thread may
//! bring its own along. Miri runs no system call.

#[cfg(all(debug_assertions, not(miri)))]
use crate::sys::syscall::syscall0;

/// The ids of its process and of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder {
    #[cfg(all(debug_assertions, not(miri)))]
    ids: [usize; 2],
}

#[cfg(all(debug_assertions, not(miri)))]
impl Holder {
    #[inline(never)]
    pub(super) fn calling() -> Self {
        let ask = |number| {
            // SAFETY: syscall0 (1): touches nothing.
            unsafe { syscall0(number) }.unwrap_or_default()
        };
        Self {
            ids: [ask(sc::nr::GETPID), ask(sc::nr::GETTID)],
        }
    }

    /// In a fork child the only thread has another id, and the registration of the one that forked.
    #[inline(never)]
    pub(super) fn assert(self) {
        let ([process, thread], [process_now, thread_now]) = (self.ids, Self::calling().ids);
        assert!(
            thread == thread_now || process != process_now,
            "a Current of thread {thread} is used on thread {thread_now}"
        );
    }
}

#[cfg(not(all(debug_assertions, not(miri))))]
impl Holder {
    #[inline(always)]
    pub(super) const fn calling() -> Self {
        Self {}
    }

    #[inline(always)]
    pub(super) const fn assert(self) {}
}
