//! A bounded queue of atomics for many producers and consumers.

use crossbeam_queue::ArrayQueue;
use rseq_rt::Area;

use super::RunQueue;
use crate::green::Ready;

/// A run queue over a bounded MPMC queue.
pub struct MpmcQueue(ArrayQueue<Ready>);

impl RunQueue for MpmcQueue {
    const NAME: &'static str = "mpmc";

    fn new(capacity: usize) -> Self {
        Self(ArrayQueue::new(capacity.max(1)))
    }

    #[inline]
    unsafe fn push(&self, _: &Area, green: Ready) {
        let mut green = green;
        // The runtime has no more green threads than places. Still, the queue may be full for the time that a
        // consumer needs from taking a place to freeing it.
        while let Err(back) = self.0.push(green) {
            green = back;
            core::hint::spin_loop();
        }
    }

    #[inline]
    unsafe fn pop(&self, _: &Area) -> Option<Ready> {
        self.0.pop()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
