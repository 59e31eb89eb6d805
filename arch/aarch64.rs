//! aarch64.
//!
//! * Thread pointer: `mrs r, tpidr_el0`, readable and writable by user code.
//! * Weak symbols: `adrp`/`ldr` from the GOT; an absent symbol leaves a zero word there.
//! * System calls: `svc 0`; number in x8, arguments in x0, x1, x2; it destroys x0 only, and SVE state.
//! * Signature: the word of `brk 0x45e0` (little-endian code), which traps if run into.

use core::arch::{asm, naked_asm};

use crate::sys::trio::TrioAddresses;

/// The word before every abort handler.
pub const SIGNATURE: u32 = 0xd428_bc00;

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
            "mrs {}, tpidr_el0",
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
            "adrp {offset}, :got:rseq_rt_weak_offset",
            "ldr {offset}, [{offset}, :got_lo12:rseq_rt_weak_offset]",
            "adrp {size}, :got:rseq_rt_weak_size",
            "ldr {size}, [{size}, :got_lo12:rseq_rt_weak_size]",
            "adrp {flags}, :got:rseq_rt_weak_flags",
            "ldr {flags}, [{flags}, :got_lo12:rseq_rt_weak_flags]",
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
            "adrp {section}, :got:_DYNAMIC",
            "ldr {section}, [{section}, :got_lo12:_DYNAMIC]",
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
            "svc 0",                    // exit(status)
            "brk 1",
            in("x8") sc::nr::EXIT,
            in("w0") status,
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
        "hint 34",                      // bti c; the compiler adds none here
        "mov w9, w2",                   // status
        "mov x8, {munmap}",
        "svc 0",                        // munmap(base, length)
        "mov w0, w9",                   // from here there is no stack
        "mov x8, {exit}",
        "svc 0",                        // exit(status)
        "brk 1",
        munmap = const sc::nr::MUNMAP,
        exit = const sc::nr::EXIT,
    )
}
