//! The C interface of rseq-rt. `include/rseq_rt.h` is its documentation, which is not repeated here.
//!
//! A null or misaligned pointer, or a call out of order, gives a negative errno before anything is changed. Neither
//! check makes a system call.

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

/// Unreachable: `cargo xtask staticlib` refuses to make an archive that contains this function.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
