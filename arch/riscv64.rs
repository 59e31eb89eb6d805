//! riscv64.
//!
//! * Thread pointer: the register `tp`.
//! * Weak symbols: a word each in `.data.rel.ro`, which the linker, or the dynamic one, fills with the address
//!   or with zero. `la` of a weak reference is not assembled right by every LLVM.
//! * System calls: `ecall`; number in a7, arguments in a0, a1, a2; it destroys a0, and all vector registers.
//! * Signature: the word of `csrw mhartid, x0`, illegal in user mode; 4-aligned, so never compressed.

use core::arch::{asm, naked_asm};

use crate::sys::trio::TrioAddresses;

/// The word before every abort handler.
pub const SIGNATURE: u32 = 0xf140_1073;

/// The thread pointer of the calling thread.
///
/// ```compile_fail,E0133
/// let pointer = rseq_rt::arch::thread_pointer();
/// ```
///
/// # Safety
/// 1. One is set up: under a libc, or a runtime that follows the psABI. Without one the value means nothing.
#[inline]
pub unsafe fn thread_pointer() -> *const u8 {
    let pointer: *const u8;
    // SAFETY: reads a register; (1) gives it its meaning. Not `pure`, not `nomem`: it differs after a green-thread switch.
    unsafe {
        asm!(
            "mv {}, tp",
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
    // SAFETY: loads three words that the linker filled. `.weakref` and not `.weak`: the latter would turn a
    // definition in the same link-time-optimised unit into a weak one.
    unsafe {
        asm!(
            ".weakref rseq_rt_weak_offset, __rseq_offset",
            ".weakref rseq_rt_weak_size, __rseq_size",
            ".weakref rseq_rt_weak_flags, __rseq_flags",
            ".pushsection .data.rel.ro.rseq_rt_weak, \"aw\", @progbits",
            ".balign 8",
            "2: .dword rseq_rt_weak_offset",
            ".dword rseq_rt_weak_size",
            ".dword rseq_rt_weak_flags",
            ".popsection",
            "lla {flags}, 2b",
            "ld {offset}, 0({flags})",
            "ld {size}, 8({flags})",
            "ld {flags}, 16({flags})",
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
    // SAFETY: loads a word that the linker filled. Every linker that makes the section defines its name, which no other object sees.
    unsafe {
        asm!(
            ".weak _DYNAMIC",
            ".hidden _DYNAMIC",
            ".pushsection .data.rel.ro.rseq_rt_weak, \"aw\", @progbits",
            ".balign 8",
            "2: .dword _DYNAMIC",
            ".popsection",
            "lla {section}, 2b",
            "ld {section}, 0({section})",
            section = out(reg) section,
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
            "ecall",                    // exit(status)
            "unimp",
            in("a7") sc::nr::EXIT,
            in("a0") status,
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
        "mv t0, a2",                    // status
        "li a7, {munmap}",
        "ecall",                        // munmap(base, length)
        "mv a0, t0",                    // from here there is no stack
        "li a7, {exit}",
        "ecall",                        // exit(status)
        "unimp",
        munmap = const sc::nr::MUNMAP,
        exit = const sc::nr::EXIT,
    )
}
