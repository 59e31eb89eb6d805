//! Sleeping green threads, ordered by wake-up time.

use alloc::collections::BTreeMap;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use rustix_futex_sync::Mutex;

use crate::green::Ready;

/// No time: there is no sleeper.
pub const NEVER: u64 = u64::MAX;

/// The sleepers by wake-up time.
struct Sleeping {
    // The number separates two with the same time.
    number: u64,
    by_time: BTreeMap<(u64, u64), Ready>,
}

/// The sleeping green threads of one runtime.
pub struct Timers {
    sleeping: Mutex<Sleeping>,
    first: AtomicU64,
}

impl Timers {
    /// No sleepers.
    pub const fn new() -> Self {
        Self {
            sleeping: Mutex::new(Sleeping {
                number: 0,
                by_time: BTreeMap::new(),
            }),
            first: AtomicU64::new(NEVER),
        }
    }

    /// The earliest wake-up time, in nanoseconds of the monotonic clock, or [`NEVER`].
    #[inline]
    pub fn first(&self) -> u64 {
        self.first.load(Relaxed)
    }

    /// Adds a sleeper; true if it is the earliest.
    pub fn insert(&self, until: u64, green: Ready) -> bool {
        let mut sleeping = self.sleeping.lock();
        let number = sleeping.number.wrapping_add(1);
        sleeping.number = number;
        sleeping.by_time.insert((until, number), green);
        let earliest = until < self.first();
        if earliest {
            self.first.store(until, Relaxed);
        }
        earliest
    }

    /// Takes a sleeper whose time has come.
    pub fn take_due(&self, now: u64) -> Option<Ready> {
        let mut sleeping = self.sleeping.lock();
        let map = &mut sleeping.by_time;
        let entry = map.first_entry().filter(|entry| entry.key().0 <= now);
        let due = entry.map(|entry| entry.remove());
        let first = map
            .first_key_value()
            .map_or(NEVER, |((until, _), _)| *until);
        self.first.store(first, Relaxed);
        due
    }
}

impl Default for Timers {
    fn default() -> Self {
        Self::new()
    }
}
