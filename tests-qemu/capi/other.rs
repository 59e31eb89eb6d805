//! Another Rust archive of the same C program, with all that such an archive brings along.

#![no_std]

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Can panic, so that the handler stays.
#[unsafe(no_mangle)]
pub extern "C" fn other_rust(index: usize) -> u32 {
    [7, 8, 9][index]
}

/// What `core`, as it is shipped, refers to where it can panic.
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}
