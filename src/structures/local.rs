//! The seam under the structures: what they ask of the calling thread's critical sections.
//!
//! [`Current`] is the real one, and `None` the one of a thread that may run no section. The trait exists so that the
//! logic above can be run exhaustively against sections that are aborted, and threads that are switched, at every
//! step on demand; real runs stay beside those.

use core::sync::atomic::AtomicUsize;

use crate::percpu::{Commit, CpuId, Current, Index, Miss, Slots};

/// The comparisons that may fail in a row before an operation takes the overflow path; as many as a section is restarted.
pub(super) const LOOKS: u32 = crate::percpu::RESTARTS;

/// The calling thread, as the structures see it: one operation is one method of [`Current`], under its conditions.
///
/// What a push commits is visible to who reads it by the same id, wherever that id is used by then.
///
/// # Safety
/// 1. Operations do what those of [`Current`] do.
pub unsafe trait Local<I: Index>: Copy {
    /// [`Current::id`]; `None` if the thread may run no section.
    fn index(self) -> Option<usize>;

    /// [`Current::add`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// 1. As there.
    unsafe fn add<T: Sync>(
        self,
        slots: Slots<'_, I, T>,
        word: usize,
        value: usize,
    ) -> Result<(), Miss>;

    /// [`Current::compare_two_and_store`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// 1. As there.
    unsafe fn compare_two_and_store<T: Sync>(
        self,
        slots: Slots<'_, I, T>,
        word: (usize, usize),
        second: (usize, usize),
        new: usize,
    ) -> Result<(), Miss>;

    /// [`Current::compare_store_and_store`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// 1. As there.
    unsafe fn compare_store_and_store<T: Sync>(
        self,
        slots: Slots<'_, I, T>,
        word: (usize, usize),
        second: (usize, usize),
        new: usize,
    ) -> Result<(), Miss>;

    /// [`Current::compare_link_and_store`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// 1. As there.
    unsafe fn compare_link_and_store<T: Sync>(
        self,
        slots: Slots<'_, I, T>,
        word: (usize, usize),
        link: *const AtomicUsize,
        new: usize,
    ) -> Result<(), Miss>;

    /// [`Current::pop`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// 1. As there.
    unsafe fn pop<T: Sync>(
        self,
        slots: Slots<'_, I, T>,
        word: usize,
        empty: usize,
        link: usize,
    ) -> Result<usize, Miss>;

    /// [`Current::compare_copy_and_store`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// 1. As there.
    unsafe fn compare_copy_and_store<T: Sync>(
        self,
        slots: Slots<'_, I, T>,
        word: (usize, usize),
        offset: usize,
        source: &[u8],
        new: usize,
    ) -> Result<(), Miss>;

    /// Stands where another thread, or a handler, may come between two steps of an overflow path. Does nothing.
    #[inline(always)]
    fn between(self) {}
}

/// A CPU's threads follow each other through the kernel's own barriers. An id may move to another CPU at once.
const fn commit<I: Index>() -> Commit {
    if is_cpu::<I>() {
        Commit::Relaxed
    } else {
        Commit::Release
    }
}

/// Are slots numbered by CPU?
pub(super) const fn is_cpu<I: Index>() -> bool {
    I::OFFSET == CpuId::OFFSET
}

// SAFETY: (1) they are those.
unsafe impl<I: Index> Local<I> for Current<'_, I> {
    #[inline(always)]
    fn index(self) -> Option<usize> {
        Some(Current::id(&self))
    }

    #[inline(always)]
    unsafe fn add<T: Sync>(
        self,
        slots: Slots<'_, I, T>,
        word: usize,
        value: usize,
    ) -> Result<(), Miss> {
        // SAFETY: the caller's. Relaxed: a sum carries nothing with it.
        unsafe { Current::add(self, slots, word, value, Commit::Relaxed) }
    }

    #[inline(always)]
    unsafe fn compare_two_and_store<T: Sync>(
        self,
        slots: Slots<'_, I, T>,
        (word, expect): (usize, usize),
        (second, expect_second): (usize, usize),
        new: usize,
    ) -> Result<(), Miss> {
        // SAFETY: the caller's.
        unsafe {
            Current::compare_two_and_store(
                self,
                slots,
                word,
                expect,
                second,
                expect_second,
                new,
                commit::<I>(),
            )
        }
    }

    #[inline(always)]
    unsafe fn compare_store_and_store<T: Sync>(
        self,
        slots: Slots<'_, I, T>,
        (word, expect): (usize, usize),
        (second, value): (usize, usize),
        new: usize,
    ) -> Result<(), Miss> {
        // SAFETY: the caller's.
        unsafe {
            Current::compare_store_and_store(
                self,
                slots,
                word,
                expect,
                second,
                value,
                new,
                commit::<I>(),
            )
        }
    }

    #[inline(always)]
    unsafe fn compare_link_and_store<T: Sync>(
        self,
        slots: Slots<'_, I, T>,
        (word, expect): (usize, usize),
        link: *const AtomicUsize,
        new: usize,
    ) -> Result<(), Miss> {
        let link = link.cast_mut().cast();
        // SAFETY: the caller's.
        unsafe {
            Current::compare_link_and_store(self, slots, word, expect, link, new, commit::<I>())
        }
    }

    #[inline(always)]
    unsafe fn pop<T: Sync>(
        self,
        slots: Slots<'_, I, T>,
        word: usize,
        empty: usize,
        link: usize,
    ) -> Result<usize, Miss> {
        let empty = core::ptr::without_provenance_mut(empty);
        // SAFETY: the caller's.
        unsafe { Current::pop(self, slots, word, empty, link as isize, commit::<I>()) }
            .map(|head| head.addr())
    }

    #[inline(always)]
    unsafe fn compare_copy_and_store<T: Sync>(
        self,
        slots: Slots<'_, I, T>,
        (word, expect): (usize, usize),
        offset: usize,
        source: &[u8],
        new: usize,
    ) -> Result<(), Miss> {
        // SAFETY: the caller's.
        unsafe {
            Current::compare_copy_and_store(
                self,
                slots,
                word,
                expect,
                offset,
                source.as_ptr(),
                source.len(),
                new,
                commit::<I>(),
            )
        }
    }
}

/// What [`Process::current`](crate::Process::current) answers: `None` has no slot.
macro_rules! or_out_of_range {
    ($($name:ident($($operand:ident: $type:ty),*) -> $result:ty;)*) => {$(
        #[inline(always)]
        unsafe fn $name<T: Sync>(
            self,
            slots: Slots<'_, I, T>,
            $($operand: $type,)*
        ) -> Result<$result, Miss> {
            match self {
                // SAFETY: the caller's.
                Some(local) => unsafe { Local::$name(local, slots, $($operand),*) },
                None => Err(Miss::OutOfRange),
            }
        }
    )*};
}

// SAFETY: (1) those of the inner one, or none at all.
unsafe impl<I: Index, L: Local<I>> Local<I> for Option<L> {
    #[inline(always)]
    fn index(self) -> Option<usize> {
        self.and_then(Local::index)
    }

    or_out_of_range! {
        add(word: usize, value: usize) -> ();
        compare_two_and_store(word: (usize, usize), second: (usize, usize), new: usize) -> ();
        compare_store_and_store(word: (usize, usize), second: (usize, usize), new: usize) -> ();
        compare_link_and_store(word: (usize, usize), link: *const AtomicUsize, new: usize) -> ();
        pop(word: usize, empty: usize, link: usize) -> usize;
        compare_copy_and_store(word: (usize, usize), offset: usize, source: &[u8], new: usize) -> ();
    }

    #[inline(always)]
    fn between(self) {
        if let Some(local) = self {
            local.between();
        }
    }
}
