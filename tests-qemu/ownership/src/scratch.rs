//! A foreign area, registered without any symbol that reveals it.

use rseq_rt::abi::{FLAG_UNREGISTER, LEGACY_LENGTH, Rseq};
use rseq_rt::{Area, Errno, Kernel, Linux, arch};

/// A third party's area, `static` like tcmalloc's main one.
pub struct ScratchArea(Area);

impl ScratchArea {
    pub const fn new() -> Self {
        Self(Area::new())
    }

    fn call(&self, flags: u32) -> Result<(), Errno> {
        let area: *const Rseq = self.0.as_rseq();
        // SAFETY: Kernel::rseq (1): a static lives as long as any thread; a local one is unregistered at once.
        unsafe { Linux.rseq(area, LEGACY_LENGTH, flags, arch::SIGNATURE) }
    }

    pub fn register(&self) -> Result<(), Errno> {
        self.call(0)
    }

    /// Whether the kernel answers EBUSY to the very same registration.
    pub fn is_registered(&self) -> bool {
        self.call(0) == Err(Errno::BUSY)
    }
}

/// Whether the calling thread has any registration. Tested with a scratch area, which leaves none behind.
pub fn registration_of_thread() -> bool {
    let scratch = ScratchArea::new();
    match scratch.call(0) {
        Ok(()) => {
            let _ = scratch.call(FLAG_UNREGISTER);
            false
        }
        Err(errno) => errno == Errno::INVAL,
    }
}
