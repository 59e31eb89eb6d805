//! The operations, with the pseudo-code that is the reference for every CPU.
//!
//! In it, `word` is the word at that byte offset of the *slot*: the one whose number is the id of this very moment.
//! Every operation begins with the same three lines, the section proper with the second:
//!
//! ```text
//! rseq_cs = &descriptor                  // a plain store: from here on, a preemption, a migration or a signal aborts
//! id = area.cpu_id (or area.mm_cid)
//! if id >= slots.count: miss OutOfRange  // cpu_id is -1 or -2 where not registered: large unsigned numbers
//! slot = slots.base + id * stride        // a shift
//! ```
//!
//! The last line of each is the committing store. Up to it nothing that others rely on has changed, and after it the
//! operation is done: the kernel either sees the thread before it, and sends it to the abort handler, or behind it.

use super::{Current, Index, Slots, sections};

/// The order of the committing store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Commit {
    /// For data that only this CPU's sections look at, or that carries nothing else with it.
    Relaxed,
    /// Whoever reads the committed word with `Acquire`, on any CPU, sees everything that came before.
    Release,
}

/// Why an operation committed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Miss {
    /// A word was not what it was compared with; the list was empty.
    Differs,
    /// Aborted more often than [`Current::restarts`] allows: single-stepping, a storm of signals. Take the path without
    /// slots.
    Aborted,
    /// The id has no slot: the storage is for fewer CPUs than the machine has, or, by CPU number,
    /// the thread is no longer registered.
    OutOfRange,
}

/// One operation, in both orders, restarted up to the bound.
macro_rules! run {
    ($current:ident, $slots:ident, $commit:ident, $name:ident($($operand:expr),*)) => {{
        let (area, slots, restarts) = ($current.rseq.as_ptr(), $slots.limit(), $current.bound());
        // SAFETY: `$name` (1) is the caller's: these are the conditions of the operation of that name.
        unsafe {
            match $commit {
                Commit::Relaxed => {
                    sections::$name::<I, T, false>(area, slots, restarts, $($operand),*)
                }
                Commit::Release => {
                    sections::$name::<I, T, true>(area, slots, restarts, $($operand),*)
                }
            }
        }
    }};
}

/// The operations. `word`, `second` and `offset` are in bytes from the start of a slot; values wrap.
///
/// # Safety
/// Of all of them:
/// 1. At `word` (and `second`) there is an aligned atomic of 8 bytes in `T`. It is written by nothing but
///    sections over slots of the same `I`, and by others only while no such section runs.
/// 2. What is added, stored or committed there is a value that the readers of the word may find.
impl<I: Index> Current<'_, I> {
    /// ```text
    /// slot.word = slot.word + value
    /// ```
    ///
    /// # Errors
    /// `Aborted`, `OutOfRange`; nothing is changed.
    ///
    /// # Safety
    /// 1., 2. of all operations.
    #[inline(always)]
    pub unsafe fn add<T>(
        self,
        slots: Slots<'_, I, T>,
        word: usize,
        value: usize,
        commit: Commit,
    ) -> Result<(), Miss> {
        run!(self, slots, commit, add(slots.address(word), value))
    }

    /// ```text
    /// pointer = slot.word
    /// *(pointer + offset) = *(pointer + offset) + value
    /// ```
    ///
    /// # Errors
    /// `Aborted`, `OutOfRange`; nothing is changed.
    ///
    /// # Safety
    /// 1., 2. of all operations, for the word that is added to.
    /// 3. The pointer in each slot leads, `offset` bytes on, to such a word, which belongs to that slot alone.
    #[inline(always)]
    pub unsafe fn add_through<T>(
        self,
        slots: Slots<'_, I, T>,
        word: usize,
        offset: isize,
        value: usize,
        commit: Commit,
    ) -> Result<(), Miss> {
        run!(
            self,
            slots,
            commit,
            add_through(slots.address(word), offset as usize, value)
        )
    }

    /// ```text
    /// if slot.word != expect: miss Differs
    /// slot.word = new
    /// ```
    ///
    /// # Errors
    /// `Differs`, `Aborted`, `OutOfRange`; nothing is changed.
    ///
    /// # Safety
    /// 1., 2. of all operations.
    #[inline(always)]
    pub unsafe fn compare_and_store<T>(
        self,
        slots: Slots<'_, I, T>,
        word: usize,
        expect: usize,
        new: usize,
        commit: Commit,
    ) -> Result<(), Miss> {
        run!(
            self,
            slots,
            commit,
            compare_and_store(slots.address(word), expect, new)
        )
    }

    /// ```text
    /// if slot.word != expect: miss Differs
    /// if slot.second != expect_second: miss Differs
    /// slot.word = new
    /// ```
    ///
    /// # Errors
    /// `Differs`, `Aborted`, `OutOfRange`; nothing is changed.
    ///
    /// # Safety
    /// 1., 2. of all operations.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)] // One for each name in the pseudo-code.
    pub unsafe fn compare_two_and_store<T>(
        self,
        slots: Slots<'_, I, T>,
        word: usize,
        expect: usize,
        second: usize,
        expect_second: usize,
        new: usize,
        commit: Commit,
    ) -> Result<(), Miss> {
        run!(
            self,
            slots,
            commit,
            compare_two_and_store(
                slots.address(word),
                expect,
                slots.address(second),
                expect_second,
                new
            )
        )
    }

    /// The push into an array of the slot.
    ///
    /// ```text
    /// if slot.word != expect: miss Differs
    /// slot.second = value
    /// slot.word = new
    /// ```
    ///
    /// # Errors
    /// `Differs`, `Aborted`, `OutOfRange`; `word` is not changed. `second` may have been stored to, in the slot
    /// of any CPU that the thread was on.
    ///
    /// # Safety
    /// 1., 2. of all operations.
    /// 3. Nobody relies on `second` while `word` is `expect`.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)] // One for each name in the pseudo-code.
    pub unsafe fn compare_store_and_store<T>(
        self,
        slots: Slots<'_, I, T>,
        word: usize,
        expect: usize,
        second: usize,
        value: usize,
        new: usize,
        commit: Commit,
    ) -> Result<(), Miss> {
        run!(
            self,
            slots,
            commit,
            compare_store_and_store(
                slots.address(word),
                expect,
                slots.address(second),
                value,
                new
            )
        )
    }

    /// The push onto a list: the second word is anywhere, and takes what was expected.
    ///
    /// ```text
    /// if slot.word != expect: miss Differs
    /// *link = expect
    /// slot.word = new
    /// ```
    ///
    /// # Errors
    /// `Differs`, `Aborted`, `OutOfRange`; `word` is not changed. `link` may have been stored to.
    ///
    /// # Safety
    /// 1., 2. of all operations.
    /// 3. `link` is an aligned word of 8 bytes that nobody else uses before the commit.
    #[inline(always)]
    pub unsafe fn compare_link_and_store<T>(
        self,
        slots: Slots<'_, I, T>,
        word: usize,
        expect: usize,
        link: *mut usize,
        new: usize,
        commit: Commit,
    ) -> Result<(), Miss> {
        run!(
            self,
            slots,
            commit,
            compare_link_and_store(slots.address(word), expect, link.expose_provenance(), new)
        )
    }

    /// The pop from a list, following its link.
    ///
    /// ```text
    /// head = slot.word
    /// if head == empty: miss Differs
    /// next = *(head + link)
    /// slot.word = next
    /// result head
    /// ```
    ///
    /// The head is that of this CPU alone, and is loaded inside: it cannot be popped and pushed again in between, which
    /// is what makes a list with atomics hard.
    ///
    /// # Errors
    /// `Differs` (the list is empty), `Aborted`, `OutOfRange`; nothing is changed.
    ///
    /// # Safety
    /// 1., 2. of all operations.
    /// 3. Every head but `empty` is the address of a node whose link, `link` bytes on, can be read for as long as a
    ///    section that has loaded that head may still run: on this CPU none can once another thread has run there, since
    ///    that switch aborts it; whoever takes nodes from elsewhere aborts it by membarrier's rseq fence before a node
    ///    is unmapped.
    #[inline(always)]
    pub unsafe fn pop<T>(
        self,
        slots: Slots<'_, I, T>,
        word: usize,
        empty: *mut u8,
        link: isize,
        commit: Commit,
    ) -> Result<*mut u8, Miss> {
        run!(
            self,
            slots,
            commit,
            pop(slots.address(word), empty, link as usize)
        )
    }

    /// The push of bytes into a buffer of the slot.
    ///
    /// ```text
    /// if slot.word != expect: miss Differs
    /// copy length bytes from source to slot.offset
    /// slot.word = new
    /// ```
    ///
    /// # Errors
    /// `Differs`, `Aborted`, `OutOfRange`; `word` is not changed. The bytes at `offset` may have been
    /// stored to, in the slot of any CPU that the thread was on.
    ///
    /// # Safety
    /// 1., 2. of all operations.
    /// 3. `length` bytes at `offset` are in `T`, and nobody relies on them while `word` is `expect`.
    /// 4. `length` bytes at `source` can be read, and are not in the slots.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)] // One for each name in the pseudo-code.
    pub unsafe fn compare_copy_and_store<T>(
        self,
        slots: Slots<'_, I, T>,
        word: usize,
        expect: usize,
        offset: usize,
        source: *const u8,
        length: usize,
        new: usize,
        commit: Commit,
    ) -> Result<(), Miss> {
        run!(
            self,
            slots,
            commit,
            compare_copy_and_store(
                slots.address(word),
                expect,
                slots.address(offset),
                source.expose_provenance(),
                length,
                new
            )
        )
    }
}
