//! The panic handler. The program chooses the effect of a panic, see [`entry!`](crate::entry!): the shipped images do
//! not link if one is reachable, and the tests report it as a failure.

use core::panic::PanicInfo;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    unsafe extern "Rust" {
        safe fn rseq_rt_guests_a_panic_is_reachable(info: &PanicInfo<'_>) -> !;
    }
    rseq_rt_guests_a_panic_is_reachable(info)
}
