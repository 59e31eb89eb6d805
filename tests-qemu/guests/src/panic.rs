//! A panic has nowhere to go here, so a release image that can reach one does
//! not link: the handler calls a function that nobody defines.

#[cfg(any(debug_assertions, feature = "allow-panic"))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    crate::sys::process::exit_group(101)
}

#[cfg(not(any(debug_assertions, feature = "allow-panic")))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        fn rseq_rt_guests_a_panic_is_reachable() -> !;
    }
    // SAFETY: an image in which this can run does not exist.
    unsafe { rseq_rt_guests_a_panic_is_reachable() }
}
