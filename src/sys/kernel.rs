//! The kernel seam: every effect of the crate on the world outside memory.
//!
//! [`Linux`] is the real one and has no size. The trait exists so that the
//! logic above it can be run exhaustively against a kernel that answers on
//! demand; real runs stay beside those.

use core::sync::atomic::AtomicU32;

use linux_raw_sys::general as uapi;

use crate::arch;
use crate::sys::abi::{
    NR_RSEQ_SLICE_YIELD, PR_RSEQ_SLICE_EXT_ENABLE, PR_RSEQ_SLICE_EXTENSION,
    PR_RSEQ_SLICE_EXTENSION_GET, PR_RSEQ_SLICE_EXTENSION_SET, Rseq,
};
use crate::sys::error::Errno;
use crate::sys::syscall::{syscall0, syscall2, syscall3, syscall4, syscall6};
use crate::sys::trio::Trio;

/// The calls that the crate makes. One method is one system call, except the last two, which are none.
///
/// # Safety
/// 1. `rseq` answers success to an unregistration only if nothing writes to the area any more.
/// 2. `set_signal_mask` and `probe_write` have done what they say whenever they answer success.
/// 3. `libc_trio` with `thread_pointer` leads to a live area of the calling thread wherever
///    the trio's size is not 0.
pub unsafe trait Kernel {
    /// rseq(2): registers or unregisters `area` for the calling thread.
    ///
    /// # Errors
    /// As the kernel answers.
    ///
    /// # Safety
    /// 1. After a successful registration, `area` stays writable memory for
    ///    `length` bytes, used for nothing else, until the thread unregisters it
    ///    or the kernel has reported the thread's exit through clear-tid.
    unsafe fn rseq(
        &self,
        area: *const Rseq,
        length: u32,
        flags: u32,
        signature: u32,
    ) -> Result<(), Errno>;

    /// rt_sigprocmask(2) with `SIG_SETMASK`: sets all 64 bits, returns the previous ones.
    ///
    /// # Errors
    /// Only if a filter refuses the call.
    fn set_signal_mask(&self, mask: u64) -> Result<u64, Errno>;

    /// getcpu(2): the CPU and its NUMA node.
    ///
    /// # Errors
    /// Only if a filter refuses the call.
    fn getcpu(&self) -> Result<(u32, u32), Errno>;

    /// futex(2) `FUTEX_WAIT`, shared: the kernel's own wake at task exit is a shared one.
    ///
    /// # Errors
    /// As the kernel answers; `AGAIN` and `INTR` are part of normal life.
    fn futex_wait(&self, word: &AtomicU32, expected: u32) -> Result<(), Errno>;

    /// rseq_slice_yield(2): was a granted extension given back in time? Else it had ended before.
    ///
    /// # Errors
    /// As the kernel answers.
    fn slice_yield(&self) -> Result<bool, Errno>;

    /// prctl(2), `PR_RSEQ_SLICE_EXTENSION_SET`: the slice extension of the calling thread.
    ///
    /// # Errors
    /// As the kernel answers; always, where nobody has written the method.
    fn set_slice_extension(&self, _on: bool) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }

    /// prctl(2), `PR_RSEQ_SLICE_EXTENSION_GET`: is it on?
    ///
    /// # Errors
    /// As [`Self::set_slice_extension`].
    fn slice_extension(&self) -> Result<bool, Errno> {
        Err(Errno::NOSYS)
    }

    /// Asks the kernel to write one word of `address` without changing it.
    ///
    /// # Errors
    /// `FAULT` if the word is not writable memory.
    fn probe_write(&self, address: *const AtomicU32) -> Result<(), Errno>;

    /// uname(2): the release, as the kernel states it, up to its first zero byte.
    ///
    /// # Errors
    /// If a filter refuses the call; always, where nobody has written the method.
    fn release(&self) -> Result<[u8; 65], Errno> {
        Err(Errno::NOSYS)
    }

    /// The libc's `__rseq_offset`, `__rseq_size` and `__rseq_flags`, if it exports them.
    fn libc_trio(&self) -> Option<Trio>;

    /// The thread pointer of the calling thread.
    ///
    /// # Safety
    /// 1. One is set up, as [`arch::thread_pointer`] asks.
    unsafe fn thread_pointer(&self) -> *const u8;
}

/// The kernel this program runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linux;

/// `sizeof(sigset_t)` in the kernel: 64 signals on the three CPUs.
const SIGSET_SIZE: usize = 8;

/// `FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0)`: adds nothing, and needs write access to do it.
const FUTEX_OP_ADD_ZERO: usize = (uapi::FUTEX_OP_ADD as usize) << 28;

// SAFETY: (1, 2) the kernel's word; (3) the ABI of the trio: glibc's manual, "Restartable Sequences".
unsafe impl Kernel for Linux {
    unsafe fn rseq(
        &self,
        area: *const Rseq,
        length: u32,
        flags: u32,
        signature: u32,
    ) -> Result<(), Errno> {
        // SAFETY: syscall4 (1): the kernel writes to `area` alone, now and later; the caller's (1) allows that.
        unsafe {
            syscall4(
                sc::nr::RSEQ,
                area.expose_provenance(),
                length as usize,
                flags as usize,
                signature as usize,
            )
        }
        .map(drop)
    }

    fn set_signal_mask(&self, mask: u64) -> Result<u64, Errno> {
        // No mask can have this value: nobody can block SIGKILL. If it stays, a filter has answered 0 instead of the kernel.
        let mut previous = u64::MAX;
        // SAFETY: syscall4 (1): reads and writes the two local words of SIGSET_SIZE bytes.
        unsafe {
            syscall4(
                sc::nr::RT_SIGPROCMASK,
                uapi::SIG_SETMASK as usize,
                (&raw const mask).expose_provenance(),
                (&raw mut previous).expose_provenance(),
                SIGSET_SIZE,
            )
        }?;
        if previous == u64::MAX {
            return Err(Errno::NOSYS);
        }
        Ok(previous)
    }

    fn getcpu(&self) -> Result<(u32, u32), Errno> {
        // No CPU: if it stays, a filter has answered 0 in the kernel's place.
        let (mut cpu, mut node) = (u32::MAX, 0u32);
        // SAFETY: syscall3 (1): writes the two local words; the third argument is unused since 2.6.24.
        unsafe {
            syscall3(
                sc::nr::GETCPU,
                (&raw mut cpu).expose_provenance(),
                (&raw mut node).expose_provenance(),
                0,
            )
        }?;
        if cpu == u32::MAX {
            return Err(Errno::NOSYS);
        }
        Ok((cpu, node))
    }

    fn futex_wait(&self, word: &AtomicU32, expected: u32) -> Result<(), Errno> {
        // SAFETY: syscall4 (1): reads the referenced word; no timeout.
        unsafe {
            syscall4(
                sc::nr::FUTEX,
                word.as_ptr().expose_provenance(),
                uapi::FUTEX_WAIT as usize,
                expected as usize,
                0,
            )
        }
        .map(drop)
    }

    fn slice_yield(&self) -> Result<bool, Errno> {
        // SAFETY: syscall0 (1): gives up the rest of the time slice, touches no memory.
        unsafe { syscall0(NR_RSEQ_SLICE_YIELD) }.map(|yielded| yielded == 1)
    }

    fn set_slice_extension(&self, on: bool) -> Result<(), Errno> {
        let on = if on { PR_RSEQ_SLICE_EXT_ENABLE } else { 0 };
        slice_prctl(PR_RSEQ_SLICE_EXTENSION_SET, on).map(drop)
    }

    fn slice_extension(&self) -> Result<bool, Errno> {
        slice_prctl(PR_RSEQ_SLICE_EXTENSION_GET, 0).map(|on| on == PR_RSEQ_SLICE_EXT_ENABLE)
    }

    fn probe_write(&self, address: *const AtomicU32) -> Result<(), Errno> {
        let nobody_waits_here = AtomicU32::new(0);
        // SAFETY: syscall6 (1): wakes nobody on a local word and adds 0 to the word at `address`, atomically;
        // memory that cannot take it makes the kernel answer EFAULT.
        unsafe {
            syscall6(
                sc::nr::FUTEX,
                nobody_waits_here.as_ptr().expose_provenance(),
                uapi::FUTEX_WAKE_OP as usize,
                0,
                0,
                address.expose_provenance(),
                FUTEX_OP_ADD_ZERO,
            )
        }
        .map(drop)
    }

    fn release(&self) -> Result<[u8; 65], Errno> {
        // struct new_utsname: six texts of 65 bytes, the release is the third.
        let mut name = [[0u8; 65]; 6];
        // SAFETY: syscall2 (1): writes the six local texts; the second argument is unused.
        unsafe { syscall2(sc::nr::UNAME, (&raw mut name).expose_provenance(), 0) }?;
        let [_, _, release, ..] = name;
        Ok(release)
    }

    // Called in one place, and its answer would go there through memory.
    #[inline(always)]
    fn libc_trio(&self) -> Option<Trio> {
        let addresses = arch::weak_trio();
        // A linker may leave the references null beside a libc that lacks the three, or has them.
        #[cfg(feature = "interpreter")]
        let addresses = if addresses.size.is_null() {
            crate::sys::interpreter::trio()
        } else {
            addresses
        };
        // SAFETY: [`Trio::load`] (1): these are the names that glibc and those who follow it export.
        unsafe { Trio::load(addresses) }
    }

    unsafe fn thread_pointer(&self) -> *const u8 {
        // SAFETY: thread_pointer (1) is (1).
        unsafe { arch::thread_pointer() }
    }
}

fn slice_prctl(what: usize, on: usize) -> Result<usize, Errno> {
    // SAFETY: syscall6 (1): changes a wish of the calling thread's and its area's `flags`, which are the kernel's.
    unsafe { syscall6(sc::nr::PRCTL, PR_RSEQ_SLICE_EXTENSION, what, on, 0, 0, 0) }
}

/// munmap(2) of memory that nobody uses.
///
/// # Errors
/// As the kernel answers.
///
/// # Safety
/// 1. Nothing refers to the `length` bytes at `base` any more, the calling thread's stack included.
pub(crate) unsafe fn munmap(base: *mut u8, length: usize) -> Result<(), Errno> {
    // SAFETY: syscall2 (1): (1) is this function's own condition.
    unsafe { syscall2(sc::nr::MUNMAP, base.expose_provenance(), length) }.map(drop)
}

/// set_tid_address(2): the kernel zeroes and wakes `word` when the calling thread ends; null for none. Was that done?
///
/// The call itself never fails, and answers the thread's id. A filter may refuse it, or answer 0 in its place.
///
/// # Safety
/// 1. `word` is null, or stays a clear-tid word until the thread has ended.
/// 2. Nobody waits for the word that was the thread's before.
pub(crate) unsafe fn set_tid_address(word: *mut u32) -> bool {
    // SAFETY: syscall2 (1): the kernel writes to `word`, later, by (1); the second argument is unused.
    let tid = unsafe { syscall2(sc::nr::SET_TID_ADDRESS, word.expose_provenance(), 0) };
    tid.is_ok_and(|tid| tid != 0)
}
