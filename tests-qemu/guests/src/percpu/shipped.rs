//! The sections that are shipped, by the names of those that stop.

use rseq_rt::percpu::inject::Op;
use rseq_rt::percpu::{Commit, Current, Index, Miss};

use super::slot::slots;

/// One try of one.
///
/// # Safety
/// 1. The conditions of the operation.
pub unsafe fn shipped<I: Index>(
    current: Current<'_, I>,
    op: Op,
    commit: Commit,
) -> Result<*mut u8, Miss> {
    let Some(slots) = slots::<I>() else {
        return Err(Miss::OutOfRange);
    };
    let current = current.restarts(0);
    // SAFETY: (1).
    let done = unsafe {
        match op {
            Op::Add(word, value) => current.add(slots, word, value, commit),
            Op::AddThrough(word, offset, value) => {
                current.add_through(slots, word, offset, value, commit)
            }
            Op::CompareAndStore(word, expect, new) => {
                current.compare_and_store(slots, word, expect, new, commit)
            }
            Op::CompareTwoAndStore(word, expect, second, expect_second, new) => current
                .compare_two_and_store(slots, word, expect, second, expect_second, new, commit),
            Op::CompareStoreAndStore(word, expect, second, value, new) => {
                current.compare_store_and_store(slots, word, expect, second, value, new, commit)
            }
            Op::CompareLinkAndStore(word, expect, link, new) => {
                current.compare_link_and_store(slots, word, expect, link, new, commit)
            }
            Op::Pop(word, empty, link) => return current.pop(slots, word, empty, link, commit),
            Op::CompareCopyAndStore(word, expect, offset, source, length, new) => current
                .compare_copy_and_store(slots, word, expect, offset, source, length, new, commit),
        }
    };
    done.map(|()| core::ptr::null_mut())
}
