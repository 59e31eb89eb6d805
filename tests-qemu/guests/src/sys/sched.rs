//! Which CPU.

use linux_raw_sys::general::{
    __NR_getcpu, __NR_sched_getaffinity, __NR_sched_setaffinity, __NR_sched_yield,
};

use super::raw::{call0, call3, check, done};
use crate::errno::Errno;

const WORDS: usize = 16;

/// A set of CPUs, the first 1024.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CpuSet([u64; WORDS]);

impl CpuSet {
    /// No CPU.
    pub const fn empty() -> Self {
        Self([0; WORDS])
    }

    /// One CPU; none if there is no such number.
    pub fn one(cpu: u32) -> Self {
        let mut set = Self::empty();
        if let Some(word) = set.0.get_mut(cpu as usize / 64) {
            *word = 1 << (cpu % 64);
        }
        set
    }

    /// Is it there?
    pub fn has(&self, cpu: u32) -> bool {
        self.0
            .get(cpu as usize / 64)
            .is_some_and(|word| word >> (cpu % 64) & 1 != 0)
    }

    /// How many.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Their numbers, rising.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        (0..(WORDS * 64) as u32).filter(move |&cpu| self.has(cpu))
    }
}

/// sched_getaffinity(2) of the calling thread.
pub fn allowed() -> Result<CpuSet, Errno> {
    let mut set = CpuSet::empty();
    let to = (&raw mut set.0).expose_provenance();
    // SAFETY: writes the set.
    check(unsafe { call3(__NR_sched_getaffinity, 0, size_of_val(&set.0), to) })?;
    Ok(set)
}

/// sched_setaffinity(2) of the thread `tid`, 0 for the calling one. The caller
/// runs on an allowed CPU when this returns.
pub fn allow(tid: u32, set: &CpuSet) -> Result<(), Errno> {
    let from = (&raw const set.0).expose_provenance();
    // SAFETY: reads the set.
    done(unsafe {
        call3(
            __NR_sched_setaffinity,
            tid as usize,
            size_of_val(&set.0),
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
