//! The way without sections: slots of atomics, and each thread has one of them by its address.

use crate::cpus::possible_cpus;
use crate::lazy::{Array, Lazy};

/// On cache lines of its own: lines are fetched in pairs on x86_64, and are of 128 bytes on some of aarch64.
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// Slots that several threads may share.
pub(crate) struct Shards<T>(Lazy<Array<Padded<T>>>);

/// More would not help: beyond that a program has rseq.
const MOST: usize = 64;

impl<T> Shards<T> {
    pub(crate) const fn new() -> Self {
        Self(Lazy::new())
    }

    /// The one of the calling thread.
    pub(crate) fn own(&self, make: impl Fn() -> T) -> &T {
        let all = self.0.get(
            || {
                let count = possible_cpus().next_power_of_two().min(MOST);
                Array::new(count, || Padded(make()))
            },
            |_| {},
        );
        let Padded(own) = &all[thread_number() % all.len()];
        own
    }

    /// All that were made, that of the calling thread first.
    pub(crate) fn nearest_first(&self) -> impl Iterator<Item = &T> {
        let all = self.0.peek().map_or(&[][..], |all| all);
        let (before, from) = all.split_at(thread_number() % all.len().max(1));
        from.iter().chain(before).map(|Padded(shard)| shard)
    }

    /// All that were made.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let all = self.0.peek().into_iter().flat_map(|all| all.iter());
        all.map(|Padded(shard)| shard)
    }
}

/// A number that differs between threads as well as a hash does, the same for a thread's whole life, its last destructors
/// included.
pub(crate) fn thread_number() -> usize {
    thread_local! {
        static HERE: u8 = const { 0 };
    }
    let address = HERE.with(|here| std::ptr::from_ref(here).addr()) as u64;
    // Fibonacci hashing: the addresses of threads differ in their middle bits.
    (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
}

#[cfg(test)]
mod tests {
    use super::{Shards, thread_number};
    use std::collections::HashSet;
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::Relaxed;
    use std::sync::{Barrier, Mutex};

    #[test]
    fn threads_are_spread() {
        let (numbers, all) = (Mutex::new(HashSet::new()), Barrier::new(16));
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    assert_eq!(thread_number(), thread_number());
                    let inserted = numbers
                        .lock()
                        .map(|mut set| set.insert(thread_number() % 64));
                    assert!(inserted.is_ok());
                    all.wait();
                });
            }
        });
        let spread = numbers.lock().map(|set| set.len());
        assert!(spread.is_ok_and(|spread| spread >= 6));
    }

    #[test]
    fn what_one_thread_adds_all_see() {
        let shards = Shards::new();
        assert_eq!(
            (shards.iter().count(), shards.nearest_first().count()),
            (0, 0)
        );
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| shards.own(|| AtomicU64::new(0)).fetch_add(1, Relaxed));
            }
        });
        let sum: u64 = shards.iter().map(|shard| shard.load(Relaxed)).sum();
        assert_eq!(sum, 4);
        let own = shards.own(|| AtomicU64::new(0));
        let first = shards.nearest_first().next();
        assert!(first.is_some_and(|first| std::ptr::eq(first, own)));
        assert_eq!(shards.nearest_first().count(), shards.iter().count());
    }
}
