//! The C interface of rseq-rt. `include/rseq_rt.h` is its documentation: what is said there is not said again here.
//!
//! A pointer that is null or misaligned, and a call out of order, are answered
//! with a negative errno before anything is changed. Neither check is a system call.

#![no_std]

mod at_exit;
mod current;
mod exit;
mod fork;
mod given;
mod layout;
mod percpu;
mod process;
mod report;
mod slice;
mod state;
mod structures;
mod thread;
#[cfg(feature = "trio")]
mod trio;

use core::panic::PanicInfo;

/// Nothing here can panic: `cargo xtask staticlib` refuses to make an archive that holds this function.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
