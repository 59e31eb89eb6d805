//! x86_64.
//!
//! * Thread pointer: `mov r, fs:0`. The psABI (variant II) puts a pointer to itself there; `rdfsbase`
//!   would need a CPU and a kernel that allow it.
//! * Weak symbols: a load from the GOT. A `lea` of an absent symbol does not link in a position-independent
//!   executable, and a null test on an `extern` static is folded away by the optimiser.
//! * System calls: `syscall`; number in rax, arguments in rdi, rsi, rdx; it destroys rax, rcx and r11 only.
//! * Signature: the operand of `ud1 edi, [rip + disp32]` (0f b9 3d), which traps if run into and is data in
//!   no encoding. `arch/x86/include/uapi/asm` has no header for it; librseq and glibc agree on the value.

use core::arch::{asm, naked_asm};

use crate::sys::trio::TrioAddresses;

/// The word before every abort handler.
pub const SIGNATURE: u32 = 0x5305_3053;

/// The thread pointer of the calling thread.
///
/// ```compile_fail,E0133
/// let pointer = rseq_rt::arch::thread_pointer();
/// ```
///
/// # Safety
/// 1. One is set up, so that the word at `fs:0` holds its own address: under a libc, or a runtime that follows the psABI.
///    Without one it is a load from address 0.
#[inline]
pub unsafe fn thread_pointer() -> *const u8 {
    let pointer: *const u8;
    // SAFETY: reads the self pointer, by (1) mapped. Not `pure`, not `nomem`: it differs after a green-thread switch.
    unsafe {
        asm!(
            "mov {}, fs:0",
            out(reg) pointer,
            options(nostack, preserves_flags, readonly),
        );
    }
    pointer
}

/// Addresses of `__rseq_offset`, `__rseq_size`, `__rseq_flags`; each null where nobody defines it.
#[cold]
#[inline(never)]
pub fn weak_trio() -> TrioAddresses {
    let (offset, size, flags);
    // SAFETY: loads three words of the GOT. `.weakref` and not `.weak`: the latter would turn a definition in
    // the same link-time-optimised unit into a weak one.
    unsafe {
        asm!(
            ".weakref rseq_rt_weak_offset, __rseq_offset",
            ".weakref rseq_rt_weak_size, __rseq_size",
            ".weakref rseq_rt_weak_flags, __rseq_flags",
            "mov {offset}, qword ptr [rip + rseq_rt_weak_offset@GOTPCREL]",
            "mov {size}, qword ptr [rip + rseq_rt_weak_size@GOTPCREL]",
            "mov {flags}, qword ptr [rip + rseq_rt_weak_flags@GOTPCREL]",
            offset = out(reg) offset,
            size = out(reg) size,
            flags = out(reg) flags,
            options(nostack, preserves_flags, readonly),
        );
    }
    TrioAddresses {
        offset,
        size,
        flags,
    }
}

/// The dynamic section (`Elf64_Dyn`) of this program or shared object; null where it has none.
#[cfg(feature = "interpreter")]
#[cold]
#[inline(never)]
pub(crate) fn dynamic_section() -> *const u8 {
    let section: *const u8;
    // SAFETY: loads a word of the GOT. Every linker that makes the section defines its name, which no other object sees.
    unsafe {
        asm!(
            ".weak _DYNAMIC",
            ".hidden _DYNAMIC",
            "mov {}, qword ptr [rip + _DYNAMIC@GOTPCREL]",
            out(reg) section,
            options(nostack, preserves_flags, readonly),
        );
    }
    section
}

/// exit(2): ends the calling thread alone.
///
/// # Safety
/// 1. Nobody expects the values on this thread's stack to be dropped.
pub unsafe fn exit_thread(status: i32) -> ! {
    // SAFETY: the call does not return.
    unsafe {
        asm!(
            "syscall",                  // exit(status)
            "ud2",
            in("eax") sc::nr::EXIT as u32,
            in("edi") status,
            options(noreturn, nostack),
        );
    }
}

/// Unmaps `length` bytes at `base`, the caller's stack among them, and ends the thread.
///
/// # Safety
/// 1. Nobody uses that memory: neither another thread, nor the kernel (rseq, clear-tid, robust list), nor a signal
///    handler.
/// 2. Nobody expects the values on this thread's stack to be dropped.
#[unsafe(naked)]
pub unsafe extern "C" fn unmap_and_exit(base: *mut u8, length: usize, status: i32) -> ! {
    naked_asm!(
        "endbr64",                      // the compiler adds none here
        "mov r9d, edx",                 // status
        "mov eax, {munmap}",
        "syscall",                      // munmap(base, length)
        "mov edi, r9d",                 // from here there is no stack
        "mov eax, {exit}",
        "syscall",                      // exit(status)
        "ud2",
        munmap = const sc::nr::MUNMAP,
        exit = const sc::nr::EXIT,
    )
}
