//! Sets of CPUs.

use core::mem::{MaybeUninit, size_of};

use crate::sys::error::Errno;
use crate::sys::file;
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
    /// The empty set.
    pub const fn empty() -> Self {
        Self([0; WORDS])
    }

    /// The set of one CPU; the empty one where Linux can have no CPU of that number.
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

    /// The same, exactly: one more than the highest number in `/sys/devices/system/cpu/possible`, whatever the calling thread
    /// may use. System calls: 3.
    ///
    /// # Errors
    /// As the kernel answers, where /sys is not mounted say; `INVAL` for a list that cannot be read.
    pub fn possible_bound() -> Result<usize, Errno> {
        let mut buffer = file::BUFFER;
        let list = file::read(c"/sys/devices/system/cpu/possible", &mut buffer)?;
        // A list that is longer than the buffer has lost its last line.
        let list = list.strip_suffix(b"\n").ok_or(Errno::INVAL)?;
        last_number(list).map_or(Err(Errno::INVAL), |last| Ok(last + 1))
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

    /// Binds the calling thread to these CPUs, and it runs on one of them when this returns: sched_setaffinity(2).
    ///
    /// # Errors
    /// As the kernel answers; `INVAL` if none of them is online and allowed.
    pub fn allow(&self) -> Result<(), Errno> {
        let from = core::ptr::from_ref(self).expose_provenance();
        // SAFETY: syscall3 (1): reads the set, changes where this thread runs.
        unsafe { syscall3(sc::nr::SCHED_SETAFFINITY, 0, size_of::<Self>(), from) }.map(drop)
    }

    /// Whether the CPU is in the set.
    pub fn has(&self, cpu: u32) -> bool {
        self.0
            .get(cpu as usize / 64)
            .is_some_and(|word| word >> (cpu % 64) & 1 != 0)
    }

    /// The number of CPUs in the set.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// The numbers of its CPUs, ascending.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = u32> {
        (0..MOST as u32).filter(move |&cpu| self.has(cpu))
    }
}

/// The last number of a list such as `0-3,8-11`, which rises.
fn last_number(list: &[u8]) -> Option<usize> {
    let last = list.rsplit(|byte| !byte.is_ascii_digit()).next()?;
    if last.is_empty() || last.len() > 9 {
        return None;
    }
    let digit = |number: usize, digit: &u8| number * 10 + usize::from(digit - b'0');
    Some(last.iter().fold(0, digit))
}

#[cfg(test)]
mod tests {
    use super::{CpuSet, MOST, last_number};

    #[test]
    fn lists_of_every_form() {
        for (list, last) in [
            (&b"0"[..], Some(0)),
            (b"0-7", Some(7)),
            (b"0-3,8-11", Some(11)),
            (b"0,2", Some(2)),
            (b"", None),
            (b"0-", None),
            (b"0-18446744073709551615", None),
        ] {
            assert_eq!(last_number(list), last);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "asks the kernel")]
    fn the_kernel_has_room_for_what_is_possible() {
        let (possible, bound) = (CpuSet::possible_bound(), CpuSet::bound());
        assert!(possible.is_ok_and(|possible| bound.is_ok_and(|bound| possible <= bound)));
    }

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
