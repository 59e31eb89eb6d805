//! The operations, with the pseudo-code that is the reference for every CPU.
//!
//! In it, `word` is the word at that byte offset of the *slot*: the one whose number is the id of this very moment.
//! Every operation begins with the same lines, and its section is what follows the first:
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

/// One operation, to be run by [`Current::run`].
///
/// `word`, `second` and `offset` are in bytes from the start of a slot; values wrap. What has been stored before the
/// commit stays stored where the operation misses, in the slot of any CPU that the thread was on.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are the names in the pseudo-code")]
pub enum Operation {
    /// ```text
    /// slot.word = slot.word + value
    /// ```
    Add { word: usize, value: usize },

    /// ```text
    /// pointer = slot.word
    /// *(pointer + offset) = *(pointer + offset) + value
    /// ```
    ///
    /// Safety: the pointer in each slot leads, `offset` bytes on, to a word as in (1) of [`Current::run`], which belongs
    /// to that slot alone.
    AddThrough {
        word: usize,
        offset: isize,
        value: usize,
    },

    /// ```text
    /// if slot.word != expect: miss Differs
    /// slot.word = new
    /// ```
    CompareAndStore {
        word: usize,
        expect: usize,
        new: usize,
    },

    /// ```text
    /// if slot.word != expect: miss Differs
    /// if slot.second != expect_second: miss Differs
    /// slot.word = new
    /// ```
    CompareTwoAndStore {
        word: usize,
        expect: usize,
        second: usize,
        expect_second: usize,
        new: usize,
    },

    /// The push into an array of the slot.
    ///
    /// ```text
    /// if slot.word != expect: miss Differs
    /// slot.second = value
    /// slot.word = new
    /// ```
    ///
    /// Safety: nobody relies on `second` while `word` is `expect`.
    CompareStoreAndStore {
        word: usize,
        expect: usize,
        second: usize,
        value: usize,
        new: usize,
    },

    /// The push onto a list: the second word is anywhere, and takes what was expected.
    ///
    /// ```text
    /// if slot.word != expect: miss Differs
    /// *link = expect
    /// slot.word = new
    /// ```
    ///
    /// Safety: `link` is an aligned word of 8 bytes that nobody else uses before the commit.
    CompareLinkAndStore {
        word: usize,
        expect: usize,
        link: *mut usize,
        new: usize,
    },

    /// The pop from a list, following its link. The one operation with a result.
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
    /// Safety: every head but `empty` is the address of a node whose link, `link` bytes on, can be read for as long as a
    /// section that has loaded that head may still run: on this CPU none can once another thread has run there, since
    /// that switch aborts it; whoever takes nodes from elsewhere aborts it by membarrier's rseq fence before a node
    /// is unmapped.
    Pop {
        word: usize,
        empty: *mut u8,
        link: isize,
    },

    /// The push of bytes into a buffer of the slot.
    ///
    /// ```text
    /// if slot.word != expect: miss Differs
    /// copy length bytes from source to slot.offset
    /// slot.word = new
    /// ```
    ///
    /// Safety: `length` bytes at `offset` are in the slot, and nobody relies on them while `word` is `expect`; `length`
    /// bytes at `source` can be read, and are not in the slots.
    CompareCopyAndStore {
        word: usize,
        expect: usize,
        offset: usize,
        source: *const u8,
        length: usize,
        new: usize,
    },
}

/// From an operation to its section: calls `$run` with the section's name and its operands in the order of the registers.
/// The one place where both are named.
macro_rules! section_of {
    ($operation:expr, $slots:ident, $run:ident) => {{
        use $crate::percpu::Operation;
        let at = |offset: usize| $slots.address(offset);
        match $operation {
            Operation::Add { word, value } => $run!(add(at(word), value)),
            Operation::AddThrough {
                word,
                offset,
                value,
            } => $run!(add_through(at(word), offset as usize, value)),
            Operation::CompareAndStore { word, expect, new } => {
                $run!(compare_and_store(at(word), expect, new))
            }
            Operation::CompareTwoAndStore {
                word,
                expect,
                second,
                expect_second,
                new,
            } => $run!(compare_two_and_store(
                at(word),
                expect,
                at(second),
                expect_second,
                new
            )),
            Operation::CompareStoreAndStore {
                word,
                expect,
                second,
                value,
                new,
            } => $run!(compare_store_and_store(
                at(word),
                expect,
                at(second),
                value,
                new
            )),
            Operation::CompareLinkAndStore {
                word,
                expect,
                link,
                new,
            } => $run!(compare_link_and_store(
                at(word),
                expect,
                link.expose_provenance(),
                new
            )),
            Operation::Pop { word, empty, link } => {
                $run!(pop(at(word), empty.expose_provenance(), link as usize))
            }
            Operation::CompareCopyAndStore {
                word,
                expect,
                offset,
                source,
                length,
                new,
            } => $run!(compare_copy_and_store(
                at(word),
                expect,
                at(offset),
                source.expose_provenance(),
                length,
                new
            )),
        }
    }};
}
#[cfg(feature = "inject")]
pub(super) use section_of;

impl<I: Index> Current<'_, I> {
    /// Runs one operation on the slot of this moment, and again while it is aborted, up to the bound. The node that a
    /// [`Pop`](Operation::Pop) took, else null. No system call; async-signal-safe.
    ///
    /// `operation` and `commit` are written out where it is called: it is inlined, and what remains is the one section.
    ///
    /// # Errors
    /// [`Miss`]; the word is not changed.
    ///
    /// # Safety
    /// 1. At `word` (and `second`) there is an aligned atomic of 8 bytes in `T`. It is written by nothing but
    ///    sections over slots of the same `I`, and by others only while no such section runs.
    /// 2. What is added, stored or committed there is a value that the readers of the word may find.
    /// 3. What the operation itself asks for.
    #[inline(always)]
    pub unsafe fn run<T>(
        self,
        slots: Slots<'_, I, T>,
        operation: Operation,
        commit: Commit,
    ) -> Result<*mut u8, Miss> {
        macro_rules! run {
            ($name:ident($($operand:expr),*)) => {
                // SAFETY: the section's (1) is (1), (2) and (3).
                unsafe { sections::$name(self, slots, commit, $($operand),*) }
            };
        }
        section_of!(operation, slots, run).map(core::ptr::with_exposed_provenance_mut)
    }
}
