//! Run queues: the one thing that differs between the runtimes that are compared.

mod mpmc;
mod mutex;
mod percpu;
pub mod ring;

pub use mpmc::MpmcQueue;
pub use mutex::MutexQueue;
pub use percpu::PercpuQueue;

use rseq_rt::Area;

use crate::green::Ready;

/// Where green threads wait for a carrier. First in, first out, or nearly so: none waits for ever.
pub trait RunQueue: Send + Sync + 'static {
    /// As the bench and the tests call it.
    const NAME: &'static str;

    /// An empty queue. At most `capacity` are in it at a time: the runtime counts.
    fn new(capacity: usize) -> Self;

    /// Puts one at the end.
    ///
    /// # Safety
    /// 1. `area` is the calling kernel thread's own, after its create hook and before its exit hook.
    unsafe fn push(&self, area: &Area, green: Ready);

    /// Takes the first one.
    ///
    /// # Safety
    /// 1. As for [`Self::push`].
    unsafe fn pop(&self, area: &Area) -> Option<Ready>;

    /// Takes one that waits elsewhere. Nothing, where there is but one queue for all.
    ///
    /// # Safety
    /// 1. As for [`Self::push`].
    unsafe fn steal(&self, _area: &Area) -> Option<Ready> {
        None
    }

    /// Takes one from where nobody has come by since the last time. Called now and then, with a number that rises, by a
    /// carrier that has enough to do: what is queued where no carrier is any more would wait for it to have nothing.
    ///
    /// # Safety
    /// 1. As for [`Self::push`].
    unsafe fn rescue(&self, _area: &Area, _turn: u32) -> Option<Ready> {
        None
    }

    /// Is there nothing to pop or steal? Right at least about what was pushed before a full barrier. What a carrier has
    /// in hand for a moment, to take one of several, may be missing: it looks for sleepers when it has put back.
    fn is_empty(&self) -> bool;
}
