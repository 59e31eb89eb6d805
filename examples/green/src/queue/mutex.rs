//! A deque behind a futex mutex: the simplest run queue.

use alloc::collections::VecDeque;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

use rseq_rt::Area;
use rustix_futex_sync::Mutex;

use super::RunQueue;
use crate::green::Ready;

/// A run queue behind a mutex.
#[repr(align(128))]
pub struct MutexQueue {
    queue: Mutex<VecDeque<Ready>>,
    // Outside the lock, so that an idle carrier can read it without locking.
    length: AtomicUsize,
}

impl RunQueue for MutexQueue {
    const NAME: &'static str = "mutex";

    fn new(capacity: usize) -> Self {
        Self {
            queue: Mutex::new(VecDeque::with_capacity(capacity)),
            length: AtomicUsize::new(0),
        }
    }

    #[inline]
    unsafe fn push(&self, _: &Area, green: Ready) {
        let mut queue = self.queue.lock();
        queue.push_back(green);
        self.length.store(queue.len(), Relaxed);
    }

    #[inline]
    unsafe fn pop(&self, _: &Area) -> Option<Ready> {
        let mut queue = self.queue.lock();
        let green = queue.pop_front();
        self.length.store(queue.len(), Relaxed);
        green
    }

    fn is_empty(&self) -> bool {
        self.length.load(Relaxed) == 0
    }
}
