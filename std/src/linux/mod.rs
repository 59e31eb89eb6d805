//! Where there may be rseq.

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

/// One more than the highest number of a CPU, or as many as the kernel's sets have room for. Not what is in a set: that is
/// what one thread may use, and the next one may use others. Without allocation, as a global allocator may be asking.
pub(crate) fn possible_cpus() -> usize {
    let possible = CpuSet::possible_bound().or_else(|_| CpuSet::bound());
    possible.unwrap_or(1)
}

/// The slots, for longer than the compiler can see.
///
/// # Safety
/// 1. They are not used after the array is dropped.
unsafe fn as_static<T>(slots: &Array<T>) -> &'static [T] {
    let slots: *const [T] = &raw const **slots;
    // SAFETY: (1).
    unsafe { &*slots }
}
