//! Which CPU.

use linux_raw_sys::general::{
    __NR_getcpu, __NR_sched_getaffinity, __NR_sched_setaffinity, __NR_sched_yield,
};

use super::raw::{call0, call3, check, done};
use crate::errno::Errno;

pub use rseq_rt::structures::CpuSet;

/// sched_getaffinity(2) of the calling thread.
pub fn allowed() -> Result<CpuSet, Errno> {
    let mut set = CpuSet::empty();
    let to = (&raw mut set).expose_provenance();
    // SAFETY: writes the set.
    check(unsafe { call3(__NR_sched_getaffinity, 0, size_of::<CpuSet>(), to) })?;
    Ok(set)
}

/// The numbers that a CPU of this kernel can have are below that.
pub fn numbers() -> Result<usize, Errno> {
    let mut set = CpuSet::empty();
    let to = (&raw mut set).expose_provenance();
    // SAFETY: writes the set.
    let bytes = check(unsafe { call3(__NR_sched_getaffinity, 0, size_of::<CpuSet>(), to) })?;
    Ok(bytes * u8::BITS as usize)
}

/// sched_setaffinity(2) of the thread `tid`, 0 for the calling one. The caller
/// runs on an allowed CPU when this returns.
pub fn allow(tid: u32, set: &CpuSet) -> Result<(), Errno> {
    let from = core::ptr::from_ref(set).expose_provenance();
    // SAFETY: reads the set.
    done(unsafe {
        call3(
            __NR_sched_setaffinity,
            tid as usize,
            size_of::<CpuSet>(),
            from,
        )
    })
}

/// sched_yield(2).
pub fn relax() {
    // SAFETY: touches no memory.
    unsafe { call0(__NR_sched_yield) };
}

/// getcpu(2): CPU and node.
pub fn getcpu() -> Result<(u32, u32), Errno> {
    let (mut cpu, mut node) = (0u32, 0u32);
    let (to, to_node) = (
        (&raw mut cpu).expose_provenance(),
        (&raw mut node).expose_provenance(),
    );
    // SAFETY: writes the two.
    done(unsafe { call3(__NR_getcpu, to, to_node, 0) })?;
    Ok((cpu, node))
}
