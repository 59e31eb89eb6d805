//! A counter in parts.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::here::Sums;
use crate::shards::Shards;

/// A counter for many threads. Adding is cheap and never contended; reading sums the parts.
///
/// ```
/// use rseq_rt_std::Counter;
///
/// static REQUESTS: Counter = Counter::new();
///
/// std::thread::scope(|scope| {
///     for _ in 0..4 {
///         scope.spawn(|| (0..1000).for_each(|_| REQUESTS.add(1)));
///     }
/// });
/// assert_eq!(REQUESTS.sum(), 4000);
/// ```
///
/// Each addition goes to the part of the thread's current CPU, without an atomic instruction, by a critical section of
/// rseq. A thread without rseq adds to one of a few parts for all such threads, by an atomic instruction.
///
/// Values wrap, so a gauge counts down by [`Self::sub`] and is read as `counter.sum() as i64`.
/// Operations have no ordering, as with `Ordering::Relaxed`.
///
/// Memory: 16 bytes, and from the first addition on 128 for each possible CPU, from the system allocator. So a
/// `#[global_allocator]` may count in one.
pub struct Counter {
    sums: Sums,
    shards: Shards<AtomicU64>,
}

impl Counter {
    /// A counter of zero.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            sums: Sums::new(),
            shards: Shards::new(),
        }
    }

    /// Adds, wrapping. Never blocks or fails.
    ///
    /// Cost: less than an uncontended atomic addition, whatever other threads do; without rseq, an atomic addition. The
    /// thread's first use of this crate may register it; the first use of the counter allocates.
    ///
    /// In a signal handler: allowed once the thread and the counter have been used
    /// ([`on_thread_start`](crate::on_thread_start)).
    // Not inlined: the address of the thread's data must not be kept across a switch of fibers.
    #[inline(never)]
    pub fn add(&self, value: u64) {
        if !self.sums.add(value) {
            self.add_without_sections(value);
        }
    }

    /// Subtracts, wrapping. As [`Self::add`].
    #[inline]
    pub fn sub(&self, value: u64) {
        self.add(value.wrapping_neg());
    }

    /// The sum of all additions, wrapping: exact if nobody adds meanwhile. It includes every addition that happened
    /// before this call.
    ///
    /// Cost: a load for each possible CPU.
    #[must_use]
    pub fn sum(&self) -> u64 {
        let shards = self.shards.iter().map(|shard| shard.load(Relaxed));
        shards.fold(self.sums.sum(), u64::wrapping_add)
    }

    #[cold]
    fn add_without_sections(&self, value: u64) {
        self.shards
            .own(|| AtomicU64::new(0))
            .fetch_add(value, Relaxed);
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counter").field(&self.sum()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Counter;

    #[test]
    fn both_ways_are_one_sum() {
        let counter = Counter::new();
        assert_eq!(counter.sum(), 0);
        counter.add(5);
        counter.add_without_sections(u64::MAX);
        assert_eq!(counter.sum(), 4);
        counter.sub(6);
        assert_eq!(counter.sum() as i64, -2);
    }
}
