//! A thread whose sections stop at a requested step until they are released.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU32, AtomicUsize};

use rseq_rt::percpu::inject::Steps;
use rseq_rt::percpu::{Commit, CpuId, Current, Miss, Operation, Slots};
use rseq_rt::structures::ThreadSections;

use crate::sys::sched;

/// The stop of sections, and the number of aborts.
pub struct Stop {
    steps: Steps,
    /// The step; 0: none.
    at: AtomicU32,
    pub aborted: AtomicUsize,
}

impl Stop {
    pub const fn new() -> Self {
        Self {
            steps: Steps::new(),
            at: AtomicU32::new(0),
            aborted: AtomicUsize::new(0),
        }
    }

    /// Sets the step, while the thread is in no section.
    pub fn arm(&self, step: u32) {
        self.steps.here.store(0, Relaxed);
        self.steps.turns.store(u32::MAX, Relaxed);
        self.steps.released.store(0, Relaxed);
        self.at.store(step, Release);
    }

    /// Clears the step, and releases a section stopped there.
    pub fn release(&self) {
        self.at.store(0, Release);
        self.steps.released.store(1, Release);
    }

    /// Whether a section has reached the step since it was armed.
    pub fn is_there(&self) -> bool {
        self.steps.here.load(Acquire) != 0
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Clone, Copy)]
pub struct Slow<'a> {
    pub current: Current<'a, CpuId>,
    pub stop: &'a Stop,
}

// SAFETY: ThreadSections (1) that of `Current`, with a stop.
unsafe impl ThreadSections<CpuId> for Slow<'_> {
    fn index(self) -> Option<usize> {
        Some(self.current.id())
    }

    unsafe fn run<T: Sync>(
        self,
        slots: Slots<'_, CpuId, T>,
        operation: Operation,
        _: Commit,
    ) -> Result<*mut u8, Miss> {
        for _ in 0..rseq_rt::percpu::RESTARTS {
            // Only the first section to get there stops: a second one would wait for a release that has passed.
            let at = self.stop.at.load(Acquire);
            let left = if self.stop.is_there() { 0 } else { at };
            self.stop.steps.left.store(left, Relaxed);
            // SAFETY: (1).
            match unsafe {
                self.current
                    .stopping(slots, operation, Commit::Relaxed, &self.stop.steps)
            } {
                Err(Miss::Aborted) => self.stop.aborted.fetch_add(1, Relaxed),
                end => return end,
            };
            // Aborted by something else than the fence: wait for that before the next try.
            sched::wait_until(|| !self.stop.is_there() || self.stop.at.load(Acquire) == 0);
        }
        Err(Miss::Aborted)
    }
}
