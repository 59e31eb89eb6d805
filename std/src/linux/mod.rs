//! The implementation on Linux with rseq.

mod broken;
mod fork;
mod lists;
mod sums;
mod thread;

use rseq_rt::structures::CpuSet;

use crate::lazy::Array;

pub(crate) use lists::Lists;
pub(crate) use rseq_rt::structures::Node;
pub(crate) use sums::Sums;
pub(crate) use thread::{cpu, start, stop, support};

/// One more than the highest CPU number, or the size of the kernel's CPU sets. Not the content of a set: that depends on
/// the calling thread. Makes no allocation, since a global allocator may call it.
pub(crate) fn possible_cpus() -> usize {
    let possible = CpuSet::possible_bound().or_else(|_| CpuSet::bound());
    possible.unwrap_or(1)
}

/// The slots with a lifetime beyond the compiler's view.
///
/// # Safety
/// 1. They are not used after the array is dropped.
unsafe fn as_static<T>(slots: &Array<T>) -> &'static [T] {
    let slots: *const [T] = &raw const **slots;
    // SAFETY: (1).
    unsafe { &*slots }
}
