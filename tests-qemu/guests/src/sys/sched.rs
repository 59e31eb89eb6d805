//! Affinity, and the CPU of the calling thread.

use linux_raw_sys::general::{
    __NR_getcpu, __NR_sched_getaffinity, __NR_sched_setaffinity, __NR_sched_yield,
};

use super::raw::{call0, syscall};
use crate::errno::Errno;

pub use rseq_rt::structures::CpuSet;

/// sched_getaffinity(2) of thread `tid`, 0 for the calling one: the set, and the bytes of the kernel's own sets.
fn affinity(tid: u32) -> Result<(CpuSet, usize), Errno> {
    let mut set = CpuSet::empty();
    let size = size_of::<CpuSet>();
    // SAFETY: writes the set.
    let bytes = unsafe { syscall!(__NR_sched_getaffinity, tid, size, &raw mut set) }?;
    Ok((set, bytes))
}

/// The CPUs that the calling thread may use.
pub fn allowed() -> Result<CpuSet, Errno> {
    allowed_of(0)
}

/// The CPUs that the thread `tid` may use.
pub fn allowed_of(tid: u32) -> Result<CpuSet, Errno> {
    affinity(tid).map(|(set, _)| set)
}

/// Greater than any CPU number of this kernel.
pub fn numbers() -> Result<usize, Errno> {
    affinity(0).map(|(_, bytes)| bytes * u8::BITS as usize)
}

/// sched_setaffinity(2) of the thread `tid`, 0 for the calling one. The calling thread runs on an allowed CPU on
/// return.
pub fn allow(tid: u32, set: &CpuSet) -> Result<(), Errno> {
    let from = core::ptr::from_ref(set);
    // SAFETY: reads the set.
    unsafe { syscall!(__NR_sched_setaffinity, tid, size_of::<CpuSet>(), from) }.map(drop)
}

pub fn relax() {
    // SAFETY: touches no memory.
    unsafe { call0(__NR_sched_yield) };
}

/// Lets others run until `holds`.
pub fn wait_until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        relax();
    }
}

/// CPU and node.
pub fn getcpu() -> Result<(u32, u32), Errno> {
    let (mut cpu, mut node) = (0u32, 0u32);
    // SAFETY: writes the two.
    unsafe { syscall!(__NR_getcpu, &raw mut cpu, &raw mut node, 0) }?;
    Ok((cpu, node))
}
