//! The parts in assembly: the start of a carrier, and the thread pointer, which points to its block.

use core::arch::{asm, naked_asm};

use crate::carrier::{Carrier, main_of_carrier};

/// clone(2) with CLONE_SETTLS: the child runs [`main_of_carrier`] on its own stack, with `carrier` as thread pointer.
///
/// # Safety
/// 1. `top` is 16-aligned, and the stack below is nobody else's until the child has ended.
/// 2. `carrier` is the child's until then; its first word is its own address.
/// 3. `clear_tid` is writable until the kernel has zeroed it.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
pub unsafe extern "C" fn clone(
    flags: usize,
    top: *mut u8,
    carrier: *mut Carrier,
    clear_tid: *mut u32,
) -> isize {
    naked_asm!(
        "mov r8, rdx",  // the fifth argument
        "mov r10, rcx", // the fourth one
        "mov eax, 56",
        "syscall",
        "test rax, rax",
        "jz 2f",
        "ret",
        "2:",           // the child
        "xor ebp, ebp",
        "call {main}",
        "ud2",
        main = sym main_of_carrier,
    )
}

/// clone(2) with CLONE_SETTLS: the child runs [`main_of_carrier`] on its own stack, with `carrier` as thread pointer.
///
/// # Safety
/// 1. `top` is 16-aligned, and the stack below is nobody else's until the child has ended.
/// 2. `carrier` is the child's until then.
/// 3. `clear_tid` is writable until the kernel has zeroed it.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
pub unsafe extern "C" fn clone(
    flags: usize,
    top: *mut u8,
    carrier: *mut Carrier,
    clear_tid: *mut u32,
) -> isize {
    naked_asm!(
        "mov x4, x3", // the fifth argument
        "mov x3, x2", // the fourth one
        "mov x8, 220",
        "svc 0",
        "cbz x0, 2f",
        "ret",
        "2:",         // the child
        "mov x29, xzr",
        "mov x30, xzr",
        "b {main}",
        main = sym main_of_carrier,
    )
}

/// clone(2) with CLONE_SETTLS: the child runs [`main_of_carrier`] on its own stack, with `carrier` as thread pointer.
///
/// # Safety
/// 1. `top` is 16-aligned, and the stack below is nobody else's until the child has ended.
/// 2. `carrier` is the child's until then.
/// 3. `clear_tid` is writable until the kernel has zeroed it.
#[cfg(target_arch = "riscv64")]
#[unsafe(naked)]
pub unsafe extern "C" fn clone(
    flags: usize,
    top: *mut u8,
    carrier: *mut Carrier,
    clear_tid: *mut u32,
) -> isize {
    naked_asm!(
        "mv a4, a3", // the fifth argument
        "mv a3, a2", // the fourth one
        "li a7, 220",
        "ecall",
        "beqz a0, 2f",
        "ret",
        "2:",        // the child
        "li s0, 0",
        "li ra, 0",
        "tail {main}",
        main = sym main_of_carrier,
    )
}

/// Makes `carrier` the calling thread's.
///
/// # Safety
/// 1. Its first word is its own address, and it outlives the thread.
/// 2. Nothing on this thread uses thread-local storage of another layout.
pub unsafe fn set_thread_pointer(carrier: *mut Carrier) {
    // User code may not write fs on every machine.
    #[cfg(target_arch = "x86_64")]
    // SAFETY: (1, 2): the kernel only stores the value.
    unsafe {
        let set_fs = linux_raw_sys::general::ARCH_SET_FS as usize;
        sc::syscall2(sc::nr::ARCH_PRCTL, set_fs, carrier.expose_provenance());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: (1, 2): nothing else reads the register.
    unsafe {
        asm!("msr tpidr_el0, {}", in(reg) carrier, options(nostack, preserves_flags));
    }
    #[cfg(target_arch = "riscv64")]
    // SAFETY: (1, 2): nothing else reads the register.
    unsafe {
        asm!("mv tp, {}", in(reg) carrier, options(nostack, preserves_flags));
    }
}

/// The calling thread's carrier. Neither `pure` nor `nomem`: a green thread finds another one after each switch.
///
/// # Safety
/// 1. [`set_thread_pointer`] or [`clone`] gave the calling thread one.
#[inline]
pub unsafe fn thread_pointer() -> *const Carrier {
    let carrier;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: by (1), the first word is the address.
    unsafe {
        asm!("mov {}, fs:[0]", out(reg) carrier, options(nostack, preserves_flags));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: reads a register, which holds the address by (1).
    unsafe {
        asm!("mrs {}, tpidr_el0", out(reg) carrier, options(nostack, preserves_flags));
    }
    #[cfg(target_arch = "riscv64")]
    // SAFETY: reads a register, which holds the address by (1).
    unsafe {
        asm!("mv {}, tp", out(reg) carrier, options(nostack, preserves_flags));
    }
    carrier
}
