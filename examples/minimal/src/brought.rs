//! Symbols that the compiler expects in a program without std: a panic handler, four functions of a libc, and a name.

use core::fmt::Write as _;

use crate::sys::{self, Console};

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let _ = writeln!(Console, "{info}");
    sys::exit_group(101)
}

/// `core` was compiled for unwinding and names it. Nothing unwinds under `panic = "abort"`.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

// Volatile: otherwise the compiler may replace the loop by a call of this very function.

/// # Safety
/// 1. As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    for nth in 0..length {
        // SAFETY: (1).
        unsafe { to.add(nth).write_volatile(from.add(nth).read_volatile()) };
    }
    to
}

/// # Safety
/// 1. As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    if to.addr() <= from.addr() {
        // SAFETY: (1): each byte is read before its place is written to.
        return unsafe { memcpy(to, from, length) };
    }
    for nth in (0..length).rev() {
        // SAFETY: (1).
        unsafe { to.add(nth).write_volatile(from.add(nth).read_volatile()) };
    }
    to
}

/// # Safety
/// 1. As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
    for nth in 0..length {
        // SAFETY: (1).
        unsafe { to.add(nth).write_volatile(byte as u8) };
    }
    to
}

/// # Safety
/// 1. As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    for nth in 0..length {
        // SAFETY: (1).
        let (a, b) = unsafe { (one.add(nth).read_volatile(), other.add(nth).read_volatile()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// The compiler's atomics on aarch64 come with a constructor that asks for the features of the CPU. Nobody calls it here,
/// so they do without these features.
#[cfg(target_arch = "aarch64")]
#[unsafe(no_mangle)]
extern "C" fn getauxval(_: usize) -> usize {
    0
}
