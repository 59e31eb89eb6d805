//! From the first instruction of the process to [`crate::main`].

extern crate alloc;

use alloc::vec::Vec;
use core::arch::naked_asm;
use core::ffi::{CStr, c_char};

use green::arguments::Arguments;
use green::{carrier, println, sys};

/// The entry point: the stack pointer is the argument of [`start`].
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
        start = sym start,
    )
}

/// The entry point: the stack pointer is the argument of [`start`].
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
        start = sym start,
    )
}

/// The entry point: the stack pointer is the argument of [`start`].
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
        start = sym start,
    )
}

/// Called by `_start`. On the stack the kernel has put the number of arguments, the arguments, the environment and the
/// auxiliary vector. Arguments and environment end with a null each.
///
/// # Safety
/// 1. Once, on the main thread; `stack` is the stack pointer as the kernel set it.
unsafe extern "C" fn start(stack: *const usize) -> ! {
    let mut arguments = Vec::new();
    // SAFETY: (1). adopt_main (1, 2, 3): (1); (4): there is no thread-local storage.
    let adopted = unsafe {
        let mut word = stack.add(1);
        while word.read() != 0 {
            arguments.push(CStr::from_ptr(word.cast::<*const c_char>().read()).to_bytes());
            word = word.add(1);
        }
        word = word.add(1);
        while word.read() != 0 {
            word = word.add(1);
        }
        carrier::adopt_main(word.add(1).cast())
    };
    if let Err(why) = adopted {
        println!("green: {why}");
        sys::exit_group(2);
    }
    sys::exit_group(crate::main(Arguments(&arguments)))
}
