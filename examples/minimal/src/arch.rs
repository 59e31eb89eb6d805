//! The parts in assembly: the first instructions of the process, and those of a thread.

use core::arch::naked_asm;

use crate::Tcb;

/// The entry point: the stack pointer is the argument of [`crate::start`].
///
/// # Safety
/// 1. Only the kernel comes here.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    naked_asm!(
        "xor ebp, ebp", // the outermost frame
        "mov rdi, rsp",
        "and rsp, -16",
        "call {start}",
        "ud2",
        start = sym crate::start,
    )
}

/// clone(2): the child calls [`crate::thread_main`] with the word at the top of its stack.
///
/// # Safety
/// 1. `top` is 16-aligned and holds the argument; the stack below is nobody else's until the child has ended.
/// 2. `clear_tid` is writable until then.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
pub unsafe extern "C" fn clone(flags: usize, top: *mut *mut Tcb, clear_tid: *mut u32) -> isize {
    naked_asm!(
        "mov r10, rdx", // the fourth argument
        "mov eax, 56",
        "syscall",
        "test rax, rax",
        "jz 2f",
        "ret",
        "2:", // the child
        "xor ebp, ebp",
        "mov rdi, [rsp]",
        "call {thread_main}",
        "ud2",
        thread_main = sym crate::thread_main,
    )
}

/// The entry point: the stack pointer is the argument of [`crate::start`].
///
/// # Safety
/// 1. Only the kernel comes here.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    naked_asm!(
        "mov x29, xzr", // the outermost frame
        "mov x30, xzr",
        "mov x0, sp",
        "b {start}",
        start = sym crate::start,
    )
}

/// clone(2): the child calls [`crate::thread_main`] with the word at the top of its stack.
///
/// # Safety
/// 1. `top` is 16-aligned and holds the argument; the stack below is nobody else's until the child has ended.
/// 2. `clear_tid` is writable until then.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
pub unsafe extern "C" fn clone(flags: usize, top: *mut *mut Tcb, clear_tid: *mut u32) -> isize {
    naked_asm!(
        "mov x4, x2", // the fifth argument
        "mov x8, 220",
        "svc 0",
        "cbz x0, 2f",
        "ret",
        "2:", // the child
        "mov x29, xzr",
        "mov x30, xzr",
        "ldr x0, [sp]",
        "b {thread_main}",
        thread_main = sym crate::thread_main,
    )
}

/// The entry point: the stack pointer is the argument of [`crate::start`].
///
/// # Safety
/// 1. Only the kernel comes here.
#[cfg(target_arch = "riscv64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _start() -> ! {
    naked_asm!(
        ".option push",
        ".option norelax", // it would be relative to itself
        "la gp, __global_pointer$",
        ".option pop",
        "mv a0, sp",
        "li ra, 0", // the outermost frame
        "tail {start}",
        start = sym crate::start,
    )
}

/// clone(2): the child calls [`crate::thread_main`] with the word at the top of its stack.
///
/// # Safety
/// 1. `top` is 16-aligned and holds the argument; the stack below is nobody else's until the child has ended.
/// 2. `clear_tid` is writable until then.
#[cfg(target_arch = "riscv64")]
#[unsafe(naked)]
pub unsafe extern "C" fn clone(flags: usize, top: *mut *mut Tcb, clear_tid: *mut u32) -> isize {
    naked_asm!(
        "mv a4, a2", // the fifth argument
        "li a7, 220",
        "ecall",
        "beqz a0, 2f",
        "ret",
        "2:", // the child
        "ld a0, 0(sp)",
        "li ra, 0",
        "tail {thread_main}",
        thread_main = sym crate::thread_main,
    )
}
