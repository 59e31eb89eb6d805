//! Another Rust archive in the same C program, with all its runtime symbols.

#![no_std]

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Can panic, so that the handler is linked.
#[unsafe(no_mangle)]
pub extern "C" fn other_rust(index: usize) -> u32 {
    [7, 8, 9][index]
}

/// References of the precompiled `core`, where it can panic.
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}
