//! The fallback without sections: slots of atomics. A hash of the thread's address selects its slot.

use crate::cpus::possible_cpus;
use crate::lazy::{Array, Lazy};

/// A value on its own cache lines: x86_64 fetches lines in pairs, and some aarch64 CPUs have lines of 128 bytes.
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// Slots that several threads may share.
pub(crate) struct Shards<T>(Lazy<Array<Padded<T>>>);

/// The maximum number of slots. More would not help: with more CPUs a program has rseq.
const MOST: usize = 64;

impl<T> Shards<T> {
    pub(crate) const fn new() -> Self {
        Self(Lazy::new())
    }

    /// The calling thread's slot.
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

    /// All slots made so far, that of the calling thread first.
    pub(crate) fn nearest_first(&self) -> impl Iterator<Item = &T> {
        let all = self.0.peek().map_or(&[][..], |all| all);
        let (before, from) = all.split_at(thread_number() % all.len().max(1));
        from.iter().chain(before).map(|Padded(shard)| shard)
    }

    /// All slots made so far.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let all = self.0.peek().into_iter().flat_map(|all| all.iter());
        all.map(|Padded(shard)| shard)
    }
}

/// A hash of the thread, the same for its whole life, including its last destructors.
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
