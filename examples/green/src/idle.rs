//! Idle carriers: they sleep on a futex; a thread that makes work wakes one.

use core::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU32, compiler_fence, fence};
use core::time::Duration;

use rustix::thread::futex::{self, Timespec};
use rustix::thread::{MembarrierCommand, membarrier};

/// The sleepers of one runtime.
///
/// The protocol is Dekker's: one side stores its work and then looks for
/// sleepers, the other announces its sleep and then looks for work. Each side
/// needs a full barrier between the two steps, or both miss the other. Work
/// comes every few nanoseconds and sleep costs a system call anyway, so the
/// sleeper pays for both sides with membarrier(2), where the kernel has it.
#[derive(Debug)]
pub struct Idle {
    epoch: AtomicU32,
    sleepers: AtomicU32,
    asymmetric: AtomicBool,
}

impl Idle {
    /// No sleepers; asks the kernel for membarrier(2).
    pub fn new() -> Self {
        let registered = membarrier(MembarrierCommand::RegisterPrivateExpedited);
        Self {
            epoch: AtomicU32::new(0),
            sleepers: AtomicU32::new(0),
            asymmetric: AtomicBool::new(registered.is_ok()),
        }
    }

    /// Whether a carrier sleeps or is about to. Called after the work was stored.
    #[inline]
    pub fn is_anyone_asleep(&self) -> bool {
        if self.asymmetric.load(Relaxed) {
            compiler_fence(SeqCst);
        } else {
            fence(SeqCst);
        }
        self.sleepers.load(Relaxed) != 0
    }

    /// Announces sleep. The caller then looks for work once more, and ends with [`Self::stay`] or [`Self::sleep`].
    ///
    /// `None`: not now. The kernel has refused the barrier that it had granted (a late filter), and the threads that
    /// make work must learn of that first.
    pub fn announce(&self) -> Option<u32> {
        let epoch = self.epoch.load(Acquire);
        self.sleepers.fetch_add(1, SeqCst);
        if self.asymmetric.load(Relaxed) {
            if membarrier(MembarrierCommand::PrivateExpedited).is_err() {
                self.asymmetric.store(false, SeqCst);
                self.stay();
                return None;
            }
        } else {
            fence(SeqCst);
        }
        Some(epoch)
    }

    /// Withdraws the announcement: there was work after all.
    pub fn stay(&self) {
        self.sleepers.fetch_sub(1, SeqCst);
    }

    /// Sleeps, unless a carrier was woken since `epoch`; `limit` at most.
    pub fn sleep(&self, epoch: u32, limit: Option<Duration>) {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        // Whether early or late, the caller looks for work again.
        let _ = futex::wait(&self.epoch, futex::Flags::PRIVATE, epoch, limit.as_ref());
        self.stay();
    }

    /// Wakes one sleeper, if there is one. Called after the work was stored.
    #[inline]
    pub fn wake_one(&self) {
        if self.is_anyone_asleep() {
            self.wake(1);
        }
    }

    /// Wakes all sleepers.
    pub fn wake_all(&self) {
        self.wake(u32::MAX >> 1);
    }

    #[cold]
    fn wake(&self, count: u32) {
        self.epoch.fetch_add(1, SeqCst);
        let _ = futex::wake(&self.epoch, futex::Flags::PRIVATE, count);
    }
}

impl Default for Idle {
    fn default() -> Self {
        Self::new()
    }
}
