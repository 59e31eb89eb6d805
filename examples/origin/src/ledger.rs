//! Counters from which the program decides at its end whether the embedding worked.

use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

use rseq_rt::abi::{FLAG_UNREGISTER, LEGACY_LENGTH, Rseq};
use rseq_rt::{Area, Errno, Error, Kernel, Linux, arch};

/// Threads that exited as joinable ones.
pub static KEPT: AtomicUsize = AtomicUsize::new(0);
/// Threads that released, as confirmed by the kernel.
pub static RELEASED: AtomicUsize = AtomicUsize::new(0);
/// Threads that released but are still registered.
pub static STILL_THERE: AtomicUsize = AtomicUsize::new(0);
/// Hooks that were called in the wrong order.
pub static BROKEN: AtomicUsize = AtomicUsize::new(0);

pub fn kept() {
    KEPT.fetch_add(1, Relaxed);
}

pub fn released() {
    let count = if is_registered() {
        &STILL_THERE
    } else {
        &RELEASED
    };
    count.fetch_add(1, Relaxed);
}

pub fn broken(_: Error) {
    BROKEN.fetch_add(1, Relaxed);
}

/// Whether the kernel has any registration of the calling thread. Tested by a scratch registration, which is undone.
fn is_registered() -> bool {
    let scratch = Area::new();
    let area: *const Rseq = scratch.as_rseq();
    // SAFETY: Kernel::rseq (1): unregistered at once.
    let ask = |flags| unsafe { Linux.rseq(area, LEGACY_LENGTH, flags, arch::SIGNATURE) };
    match ask(0) {
        Ok(()) => ask(FLAG_UNREGISTER).is_err(),
        Err(errno) => errno == Errno::INVAL,
    }
}
