//! The values renewed for each case: the process, on one kernel or the other, and the callbacks.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rseq_rt::{AtExit, Callback, Errno, Kernel, Linux, Process};

use crate::calls_of_linux;

/// The real kernel with a filter that refuses the mask: every instruction of the hooks can be interrupted.
#[derive(Clone, Copy, Debug)]
pub struct NoMask;

// SAFETY: Kernel (1, 2, 3): each call is Linux's own, except the refused one.
unsafe impl Kernel for NoMask {
    fn set_signal_mask(&self, _: u64) -> Result<u64, Errno> {
        Err(Errno::PERM)
    }

    calls_of_linux!(rseq getcpu futex_wait slice_yield probe_write libc_trio thread_pointer);
}

/// A kernel whose process is renewed for each case.
pub trait Seam: Kernel + Copy + 'static {
    const KERNEL: Self;
    /// Whether signals are blocked while a hook registers.
    const MASKS: bool;
    fn process() -> &'static Renewed<Process<Self>>;
}

impl Seam for Linux {
    const KERNEL: Self = Linux;
    const MASKS: bool = true;
    fn process() -> &'static Renewed<Process<Self>> {
        static PROCESS: Renewed<Process<Linux>> = Renewed::new(Process::new());
        &PROCESS
    }
}

impl Seam for NoMask {
    const KERNEL: Self = NoMask;
    const MASKS: bool = false;
    fn process() -> &'static Renewed<Process<Self>> {
        static PROCESS: Renewed<Process<NoMask>> = Renewed::new(Process::with_kernel(NoMask));
        &PROCESS
    }
}

/// A value renewed between two cases.
pub struct Renewed<T>(UnsafeCell<T>);

// SAFETY: the child has one thread.
unsafe impl<T> Sync for Renewed<T> {}

impl<T> Renewed<T> {
    const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    pub fn get(&self) -> &T {
        // SAFETY: renewed only between two cases, when nobody uses it.
        unsafe { &*self.0.get() }
    }

    pub fn renew(&self, value: T) {
        // SAFETY: as above; one thread, and no handler acts between two cases.
        unsafe { self.0.get().write(value) };
    }
}

pub static CALLBACKS: Renewed<AtExit<8>> = Renewed::new(AtExit::new());
/// The number accepted.
pub static PUSHED: AtomicU64 = AtomicU64::new(0);
/// The number called.
pub static CALLED: AtomicU64 = AtomicU64::new(0);

pub fn renew_callbacks() {
    CALLBACKS.renew(AtExit::new());
    PUSHED.store(0, Relaxed);
    CALLED.store(0, Relaxed);
}

/// Adds a callback, and counts it if accepted.
pub fn push_callback() {
    unsafe extern "C" fn called(_: *mut c_void) {
        CALLED.fetch_add(1, Relaxed);
    }
    // SAFETY: Callback::new (1): an addition.
    let callback = unsafe { Callback::new(called, null_mut()) };
    if CALLBACKS.get().push(callback).is_ok() {
        PUSHED.fetch_add(1, Relaxed);
    }
}
