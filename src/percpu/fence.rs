//! The fence of a drain: after it, no section that had begun before it is in flight on that CPU.

use core::mem::{MaybeUninit, size_of};
use linux_raw_sys::general::membarrier_cmd as cmd;
use linux_raw_sys::general::membarrier_cmd_flag;

use super::Index;
use super::slots::is_cpu;
use crate::sys::cpus::CpuSet;
use crate::sys::error::Errno;
use crate::sys::kernel::Linux;
use crate::sys::syscall::syscall3;

/// Why a drain took nothing. Nothing is lost: what was in the slot is still there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DrainError {
    /// The index is not below the number of slots.
    NoSuchSlot,
    /// Another drain of this slot is under way, in another thread or under the calling handler; or sections stored over
    /// the mark each time.
    Busy,
    /// The kernel refused the fence and its fallback.
    Refused(Errno),
}

/// The system calls of a fence.
///
/// # Safety
/// 1. `membarrier` and `visit` have done what they say whenever they answer success.
pub unsafe trait Membarrier {
    /// membarrier(2).
    ///
    /// # Errors
    /// As the kernel answers.
    fn membarrier(&self, command: u32, flags: u32, cpu: u32) -> Result<(), Errno>;

    /// The calling thread runs on that CPU, and is then back where it may run: sched_getaffinity(2), sched_setaffinity(2)
    /// twice. Refused on the way back, it stays bound to the CPU.
    ///
    /// # Errors
    /// As the kernel answers; `INVAL` if the CPU is offline, not allowed or none at all.
    fn visit(&self, cpu: u32) -> Result<(), Errno>;
}

// SAFETY: (1) the kernel's word.
unsafe impl Membarrier for Linux {
    fn membarrier(&self, command: u32, flags: u32, cpu: u32) -> Result<(), Errno> {
        // SAFETY: syscall3 (1): touches no memory of ours.
        unsafe {
            syscall3(
                sc::nr::MEMBARRIER,
                command as usize,
                flags as usize,
                cpu as usize,
            )
        }
        .map(drop)
    }

    fn visit(&self, cpu: u32) -> Result<(), Errno> {
        // No set by value: nothing here may need memset(3) or memcpy(3), which a libc's start may not have.
        let mut before = MaybeUninit::<CpuSet>::uninit();
        let length = CpuSet::get(&mut before)?;
        let mut there = MaybeUninit::<CpuSet>::uninit();
        let words: *mut u64 = there.as_mut_ptr().cast();
        let bit = cpu as usize / u64::BITS as usize;
        if bit >= size_of::<CpuSet>() / size_of::<u64>() {
            return Err(Errno::INVAL);
        }
        for word in 0..=bit {
            let value = if word == bit {
                1 << (cpu % u64::BITS)
            } else {
                0
            };
            // SAFETY: in the set, just checked. Volatile, or this loop would be a memset(3).
            unsafe { words.add(word).write_volatile(value) };
        }
        let move_to = |length: usize, from: usize| {
            // SAFETY: syscall3 (1): reads the bytes that were written above, changes where this thread runs.
            unsafe { syscall3(sc::nr::SCHED_SETAFFINITY, 0, length, from) }.map(drop)
        };
        move_to((bit + 1) * size_of::<u64>(), words.expose_provenance())?;
        // The context switch that brought us there was the barrier too.
        move_to(length, before.as_ptr().expose_provenance())
    }
}

/// The fence that aborts the sections in flight on another CPU. One for the process is enough, and it may be copied.
///
/// Where the kernel has it (5.10), membarrier(2) with `PRIVATE_EXPEDITED_RSEQ`. An offline CPU answers success: nothing
/// runs there. Elsewhere, and where a filter refuses it, the calling thread moves itself to that
/// CPU and back, which preempts whoever was in a section there; for that the CPU must be online and within the
/// thread's cpuset, and concurrency ids have no such fallback. The barriers without rseq (`PRIVATE_EXPEDITED`, `GLOBAL`) are
/// none: they interrupt a section without aborting it.
#[derive(Clone, Copy, Debug)]
pub struct Fence<K: Membarrier = Linux> {
    kernel: K,
    has_membarrier: bool,
}

impl Fence {
    /// Registers the process for the fence. One system call, which may wait for a grace period of the kernel's: at start.
    ///
    /// exec(2) forgets it, and a fork child keeps it; where it was forgotten the fence registers once more.
    pub fn register() -> Self {
        Self::register_on(Linux)
    }
}

impl<K: Membarrier> Fence<K> {
    /// As [`Fence::register`], on a kernel of the caller's choice.
    pub fn register_on(kernel: K) -> Self {
        let register = cmd::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ as u32;
        let has_membarrier = kernel.membarrier(register, 0, 0).is_ok();
        Self {
            kernel,
            has_membarrier,
        }
    }

    /// Whether it uses membarrier(2). It says nothing about rseq(2): either exists without the other.
    pub const fn has_membarrier(&self) -> bool {
        self.has_membarrier
    }

    /// Aborts the sections in flight on an index; later ones see what the caller stored before. System calls: 1, or 3.
    ///
    /// For structures of one's own on [`percpu`](crate::percpu): who closes a slot by a word that every section compares,
    /// and finds that word still there after this, has the slot alone.
    ///
    /// Where membarrier(2) is refused, the calling thread goes to that CPU and back to the mask that
    /// sched_getaffinity(2) told before, in which CPUs that were offline are missing.
    ///
    /// # Errors
    /// `Refused`; sections may be in flight. The thread may still be bound to that CPU, if the way back was refused.
    pub fn abort_sections<I: Index>(&self, index: usize) -> Result<(), DrainError> {
        let outcome = match self.membarrier::<I>(index) {
            // The kernel refuses a number that is no CPU.
            Err(_) if is_cpu::<I>() => self.kernel.visit(index.try_into().unwrap_or(u32::MAX)),
            outcome => outcome,
        };
        outcome.map_err(DrainError::Refused)
    }

    fn membarrier<I: Index>(&self, index: usize) -> Result<(), Errno> {
        if !self.has_membarrier {
            return Err(Errno::NOSYS);
        }
        let fence = || {
            let command = cmd::MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ as u32;
            if is_cpu::<I>() {
                let one = membarrier_cmd_flag::MEMBARRIER_CMD_FLAG_CPU as u32;
                self.kernel.membarrier(command, one, index as u32)
            } else {
                // A thread with that id may be anywhere.
                self.kernel.membarrier(command, 0, 0)
            }
        };
        match fence() {
            // Not registered: another program was executed since.
            Err(Errno::PERM) => {
                let register = cmd::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ as u32;
                self.kernel.membarrier(register, 0, 0)?;
                fence()
            }
            outcome => outcome,
        }
    }
}
