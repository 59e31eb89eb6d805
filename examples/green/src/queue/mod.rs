//! Run queues: the only difference between the compared runtimes.

mod mpmc;
mod mutex;
mod percpu;
pub mod ring;

pub use mpmc::MpmcQueue;
pub use mutex::MutexQueue;
pub use percpu::PercpuQueue;

use rseq_rt::Area;

use crate::green::Ready;

/// A queue of ready green threads. First in, first out, or nearly so: none waits for ever.
pub trait RunQueue: Send + Sync + 'static {
    /// The name in the bench and the tests.
    const NAME: &'static str;

    /// An empty queue. The runtime ensures that it holds at most `capacity` at a time.
    fn new(capacity: usize) -> Self;

    /// Appends a green thread.
    ///
    /// # Safety
    /// 1. `area` is the calling kernel thread's own, after its create hook and before its exit hook.
    unsafe fn push(&self, area: &Area, green: Ready);

    /// Takes the first one.
    ///
    /// # Safety
    /// 1. As for [`Self::push`].
    unsafe fn pop(&self, area: &Area) -> Option<Ready>;

    /// Takes one from another carrier's queue. Does nothing where all share one queue.
    ///
    /// # Safety
    /// 1. As for [`Self::push`].
    unsafe fn steal(&self, _area: &Area) -> Option<Ready> {
        None
    }

    /// Takes one from a queue that nobody has served since the last call. A busy carrier calls it now and then, with a
    /// rising number. Otherwise a queue without a carrier would wait until another carrier is idle.
    ///
    /// # Safety
    /// 1. As for [`Self::push`].
    unsafe fn rescue(&self, _area: &Area, _turn: u32) -> Option<Ready> {
        None
    }

    /// Whether there is nothing to pop or steal. Correct at least for pushes before a full barrier. Green threads that a
    /// carrier holds for a moment, to take one of several, may be missing: it looks for sleepers after putting them back.
    fn is_empty(&self) -> bool;
}
