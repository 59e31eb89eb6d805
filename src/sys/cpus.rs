//! Sets of CPUs.

use core::mem::{MaybeUninit, size_of};

use crate::sys::error::Errno;
use crate::sys::syscall::syscall3;

/// As many CPUs as Linux can be built for, which x86_64 can (`MAXSMP`); aarch64 ends at 4096, riscv64 at 512.
const MOST: usize = 8192;
const WORDS: usize = MOST / u64::BITS as usize;

/// CPUs by number, as sched_setaffinity(2) takes them: room for each that a kernel can have, as nothing is allocated here.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuSet([u64; WORDS]);

impl Default for CpuSet {
    fn default() -> Self {
        Self::empty()
    }
}

impl CpuSet {
    /// No CPU.
    pub const fn empty() -> Self {
        Self([0; WORDS])
    }

    /// One CPU; none if there can be no such number.
    pub fn one(cpu: u32) -> Self {
        let mut set = Self::empty();
        if let Some(word) = set.0.get_mut(cpu as usize / 64) {
            *word = 1 << (cpu % 64);
        }
        set
    }

    /// How many slots cover every CPU number of this machine, without a file: sched_getaffinity(2) answers with a mask of
    /// all numbers that there may be, in multiples of 64. System calls: 1.
    ///
    /// # Errors
    /// As the kernel answers; `INVAL` where it knows more CPUs than the set has room for.
    pub fn bound() -> Result<usize, Errno> {
        let mut set = MaybeUninit::uninit();
        Self::get(&mut set).map(|bytes| bytes * 8)
    }

    /// Where the calling thread may run; the bytes of `into` that are known then.
    pub(crate) fn get(into: &mut MaybeUninit<Self>) -> Result<usize, Errno> {
        let to = into.as_mut_ptr().expose_provenance();
        // SAFETY: syscall3 (1): writes the set, which is the caller's.
        unsafe { syscall3(sc::nr::SCHED_GETAFFINITY, 0, size_of::<Self>(), to) }
    }

    /// Where the calling thread may run: sched_getaffinity(2).
    ///
    /// # Errors
    /// As [`Self::bound`].
    pub fn allowed() -> Result<Self, Errno> {
        let mut set = MaybeUninit::new(Self::empty());
        Self::get(&mut set)?;
        // SAFETY: it was empty, and the kernel has written what it knows.
        Ok(unsafe { set.assume_init() })
    }

    /// Has the calling thread run on one of these CPUs, from when this returns: sched_setaffinity(2).
    ///
    /// # Errors
    /// As the kernel answers; `INVAL` if none of them is online and allowed.
    pub fn allow(&self) -> Result<(), Errno> {
        let from = core::ptr::from_ref(self).expose_provenance();
        // SAFETY: syscall3 (1): reads the set, changes where this thread runs.
        unsafe { syscall3(sc::nr::SCHED_SETAFFINITY, 0, size_of::<Self>(), from) }.map(drop)
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
    pub fn iter(self) -> impl DoubleEndedIterator<Item = u32> {
        (0..MOST as u32).filter(move |&cpu| self.has(cpu))
    }
}

#[cfg(test)]
mod tests {
    use super::{CpuSet, MOST};

    #[test]
    fn every_number_that_a_kernel_can_have() {
        let most = MOST as u32;
        for cpu in [0, 63, 64, 1023, 1024, 2047, most - 1] {
            let set = CpuSet::one(cpu);
            assert!(set.has(cpu) && set.count() == 1);
            assert!(set.iter().eq([cpu]));
        }
        for beyond in [most, u32::MAX] {
            assert_eq!(CpuSet::one(beyond), CpuSet::empty());
            assert!(!CpuSet::one(0).has(beyond));
        }
        assert_eq!(CpuSet::default().count(), 0);
    }
}
