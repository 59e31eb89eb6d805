//! For tests alone (feature `inject`): the same sections with a place to stop at before each step.
//!
//! The sections that are shipped are not touched by it: these are functions beside them.

use core::sync::atomic::AtomicU32;

use super::{Commit, Current, Index, Miss, Slots, sections};

/// Of one thread: where its next section is to stop, and for how long.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Steps {
    /// How many steps to the stop; counted down by the section. 0, or more than it has, is nowhere.
    pub left: AtomicU32,
    /// The stop lasts for so many turns; counted down by the section, so that a 0 of another thread's may be lost. A
    /// handler's is not: the section is aborted.
    pub turns: AtomicU32,
    /// The section stores 1 when it has come to the stop.
    pub here: AtomicU32,
    /// The stop ends when this is not 0. The section only reads it: this is for other threads.
    pub released: AtomicU32,
}

impl Steps {
    /// No stop.
    pub const fn new() -> Self {
        Self {
            left: AtomicU32::new(0),
            turns: AtomicU32::new(0),
            here: AtomicU32::new(0),
            released: AtomicU32::new(0),
        }
    }
}

/// An operation of [`Current`], under the same conditions.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    /// [`Current::add`]: word, value.
    Add(usize, usize),
    /// [`Current::add_through`]: word, offset, value.
    AddThrough(usize, isize, usize),
    /// [`Current::compare_and_store`]: word, expect, new.
    CompareAndStore(usize, usize, usize),
    /// [`Current::compare_two_and_store`]: word, expect, second, expect_second, new.
    CompareTwoAndStore(usize, usize, usize, usize, usize),
    /// [`Current::compare_store_and_store`]: word, expect, second, value, new.
    CompareStoreAndStore(usize, usize, usize, usize, usize),
    /// [`Current::compare_link_and_store`]: word, expect, link, new.
    CompareLinkAndStore(usize, usize, *mut usize, usize),
    /// [`Current::pop`]: word, empty, link.
    Pop(usize, *mut u8, isize),
    /// [`Current::compare_copy_and_store`]: word, expect, offset, source, length, new.
    CompareCopyAndStore(usize, usize, usize, *const u8, usize, usize),
}

impl<I: Index> Current<'_, I> {
    /// One try of one operation, with a stop. A pop's head, else null.
    ///
    /// # Errors
    /// Those of the operation.
    ///
    /// # Safety
    /// 1. The conditions of the operation.
    pub unsafe fn stopping<T>(
        self,
        slots: Slots<'_, I, T>,
        op: Op,
        commit: Commit,
        steps: &Steps,
    ) -> Result<*mut u8, Miss> {
        macro_rules! run {
            ($name:ident($($operand:expr),*)) => {{
                let (area, count) = (self.rseq.as_ptr().cast_const(), slots.limit());
                let steps = core::ptr::from_ref(steps).cast_mut();
                // SAFETY: `injected` (1) is (1).
                unsafe {
                    match commit {
                        Commit::Relaxed =>
                            sections::$name::injected::<I, T, false>(area, count, 0, $($operand,)* steps),
                        Commit::Release =>
                            sections::$name::injected::<I, T, true>(area, count, 0, $($operand,)* steps),
                    }
                }
            }};
        }
        let at = |offset| slots.address(offset);
        let done = match op {
            Op::Add(word, value) => run!(add(at(word), value)),
            Op::AddThrough(word, offset, value) => {
                run!(add_through(at(word), offset as usize, value))
            }
            Op::CompareAndStore(word, expect, new) => {
                run!(compare_and_store(at(word), expect, new))
            }
            Op::CompareTwoAndStore(word, expect, second, expect_second, new) => {
                run!(compare_two_and_store(
                    at(word),
                    expect,
                    at(second),
                    expect_second,
                    new
                ))
            }
            Op::CompareStoreAndStore(word, expect, second, value, new) => {
                run!(compare_store_and_store(
                    at(word),
                    expect,
                    at(second),
                    value,
                    new
                ))
            }
            Op::CompareLinkAndStore(word, expect, link, new) => {
                run!(compare_link_and_store(
                    at(word),
                    expect,
                    link.expose_provenance(),
                    new
                ))
            }
            Op::Pop(word, empty, link) => return run!(pop(at(word), empty, link as usize)),
            Op::CompareCopyAndStore(word, expect, offset, source, length, new) => {
                let source = source.expose_provenance();
                run!(compare_copy_and_store(
                    at(word),
                    expect,
                    at(offset),
                    source,
                    length,
                    new
                ))
            }
        };
        done.map(|()| core::ptr::null_mut())
    }
}
