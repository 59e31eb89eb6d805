//! What is a new one in each case: the process, on one kernel or the other, and the callbacks.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use rseq_rt::abi::Rseq;
use rseq_rt::{AtExit, Callback, Config, Kernel, Linux, Process, Trio};

/// The real kernel, where a filter refuses the mask: every instruction of the hooks can be interrupted.
#[derive(Clone, Copy, Debug)]
pub struct NoMask;

type Answer<T> = Result<T, rseq_rt::Errno>;

// SAFETY: Kernel (1, 2, 3): each call is Linux's own, but for the one that is refused.
unsafe impl Kernel for NoMask {
    unsafe fn rseq(&self, area: *const Rseq, len: u32, flags: u32, signature: u32) -> Answer<()> {
        // SAFETY: rseq (1) is this function's (1).
        unsafe { Linux.rseq(area, len, flags, signature) }
    }

    fn set_signal_mask(&self, _: u64) -> Answer<u64> {
        Err(rseq_rt::Errno::PERM)
    }

    fn getcpu(&self) -> Answer<(u32, u32)> {
        Linux.getcpu()
    }

    fn futex_wait(&self, word: &AtomicU32, expected: u32) -> Answer<()> {
        Linux.futex_wait(word, expected)
    }

    fn slice_yield(&self) -> Answer<bool> {
        Linux.slice_yield()
    }

    fn probe_write(&self, address: *const AtomicU32) -> Answer<()> {
        Linux.probe_write(address)
    }

    fn libc_trio(&self) -> Option<Trio> {
        Linux.libc_trio()
    }

    unsafe fn thread_pointer(&self) -> *const u8 {
        // SAFETY: thread_pointer (1) is this function's.
        unsafe { Linux.thread_pointer() }
    }
}

/// A kernel with a process that is a new one in each case.
pub trait Seen: Kernel + Copy + 'static {
    /// The kernel.
    const KERNEL: Self;
    /// Are signals blocked while a hook registers?
    const MASKS: bool;
    /// The process.
    fn process() -> &'static Fresh<Self>;
}

impl Seen for Linux {
    const KERNEL: Self = Linux;
    const MASKS: bool = true;
    fn process() -> &'static Fresh<Self> {
        static PROCESS: Fresh<Linux> = Fresh::new(Linux);
        &PROCESS
    }
}

impl Seen for NoMask {
    const KERNEL: Self = NoMask;
    const MASKS: bool = false;
    fn process() -> &'static Fresh<Self> {
        static PROCESS: Fresh<NoMask> = Fresh::new(NoMask);
        &PROCESS
    }
}

/// A process that can be made anew.
pub struct Fresh<K: Kernel>(UnsafeCell<Process<K>>);

// SAFETY: the child has one thread.
unsafe impl<K: Kernel> Sync for Fresh<K> {}

impl<K: Kernel + Copy> Fresh<K> {
    const fn new(kernel: K) -> Self {
        Self(UnsafeCell::new(Process::with_kernel(kernel)))
    }

    /// As it is.
    pub fn get(&self) -> &Process<K> {
        // SAFETY: renewed between two cases alone, when nobody has it.
        unsafe { &*self.0.get() }
    }

    /// A new one, with its configuration.
    pub fn renew(&self, kernel: K, config: Config) -> bool {
        // SAFETY: as above; one thread, and no handler acts between two cases.
        unsafe { self.0.get().write(Process::with_kernel(kernel)) };
        self.get().init(config).is_ok()
    }
}

/// The callbacks of the thread.
pub struct Callbacks(UnsafeCell<AtExit<8>>);

// SAFETY: the child has one thread.
unsafe impl Sync for Callbacks {}

/// The callbacks of the thread.
pub static CALLBACKS: Callbacks = Callbacks(UnsafeCell::new(AtExit::new()));
/// How many were accepted.
pub static PUSHED: AtomicU64 = AtomicU64::new(0);
/// How many were called.
pub static CALLED: AtomicU64 = AtomicU64::new(0);

impl Callbacks {
    /// As they are.
    pub fn get(&self) -> &AtExit<8> {
        // SAFETY: renewed between two cases alone, when nobody has it.
        unsafe { &*self.0.get() }
    }

    /// None any more.
    pub fn renew(&self) {
        // SAFETY: as above.
        unsafe { self.0.get().write(AtExit::new()) };
        PUSHED.store(0, Relaxed);
        CALLED.store(0, Relaxed);
    }

    /// Adds one, and counts it if it is accepted.
    pub fn push(&self) {
        unsafe extern "C" fn called(_: *mut c_void) {
            CALLED.fetch_add(1, Relaxed);
        }
        // SAFETY: Callback::new (1): an addition.
        let callback = unsafe { Callback::new(called, null_mut()) };
        if self.get().push(callback).is_ok() {
            PUSHED.fetch_add(1, Relaxed);
        }
    }
}
