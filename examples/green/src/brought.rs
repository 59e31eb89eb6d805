//! Symbols that the compiler expects in a program without std: a panic handler, six functions of a libc, and two names.

use green::{println, sys};

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("{info}");
    sys::exit_group(101)
}

/// `core` and `alloc` were compiled for unwinding and name it. Nothing unwinds under `panic = "abort"`.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Likewise.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    sys::exit_group(101)
}

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

/// # Safety
/// 1. As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    // SAFETY: (1).
    unsafe { memcmp(one, other, length) }
}

/// # Safety
/// 1. As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: (1).
    while unsafe { text.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}

/// The compiler's atomics on aarch64 come with a constructor that asks for the features of the CPU. Nobody calls it here,
/// so they do without these features.
#[cfg(target_arch = "aarch64")]
#[unsafe(no_mangle)]
extern "C" fn getauxval(_: usize) -> usize {
    0
}
