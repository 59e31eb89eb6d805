//! A value for each CPU.

use std::fmt;

use crate::cpus::{current_cpu, possible_cpus};
use crate::lazy::{Array, Lazy};
use crate::shards::Padded;

/// A value for each CPU, made at its first use: a cache, a queue, a lock. Each thread uses that of its current CPU.
///
/// ```
/// use std::sync::Mutex;
/// use rseq_rt_std::PerCpu;
///
/// static LOG: PerCpu<Mutex<Vec<String>>> = PerCpu::new(|| Mutex::new(Vec::new()));
///
/// LOG.with(|log| log.lock().unwrap().push("a line".to_owned()));
/// let lines: usize = LOG.iter().map(|log| log.lock().unwrap().len()).sum();
/// assert_eq!(lines, 1);
/// ```
///
/// The thread may be moved to another CPU at any moment, so two threads can use one value at the same time: `T` is
/// `Sync`, and its lock or its atomics are rarely contended. This is not a critical section;
/// [`Counter`](crate::Counter) and [`Pool`](crate::Pool) are built on those.
///
/// The reference ends with the closure, and cannot be kept across an `await`:
///
/// ```compile_fail
/// # use std::sync::Mutex;
/// # use rseq_rt_std::PerCpu;
/// # static LOG: PerCpu<Mutex<u64>> = PerCpu::new(|| Mutex::new(0));
/// let later = LOG.with(|log| async move { log.lock().map(|n| *n) });
/// ```
///
/// A fiber may switch inside the closure: it continues with the value of a CPU that it has left.
pub struct PerCpu<T> {
    make: fn() -> T,
    values: Lazy<Array<Padded<Lazy<T>>>>,
}

impl<T: Send + Sync> PerCpu<T> {
    /// No values yet; `make` makes each at its first use. If two threads make one at the same time, one result is
    /// dropped.
    #[must_use]
    pub const fn new(make: fn() -> T) -> Self {
        Self {
            make,
            values: Lazy::new(),
        }
    }

    /// Calls `f` with the value of the thread's CPU at the time of the call.
    ///
    /// Cost: that of [`current_cpu`], and two loads; the first use of a value calls `make` and allocates.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        let make = || Array::new(possible_cpus(), || Padded(Lazy::new()));
        let values = self.values.get(make, |_| {});
        let Padded(value) = &values[current_cpu()];
        f(value.get(self.make, |_| {}))
    }

    /// The values made so far, in the order of their CPUs: to sum them, or to clean up.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let values = self.values.peek().into_iter().flat_map(|all| all.iter());
        values.filter_map(|Padded(value)| value.peek())
    }
}

impl<T: Default + Send + Sync> Default for PerCpu<T> {
    fn default() -> Self {
        Self::new(T::default)
    }
}

impl<T: fmt::Debug + Send + Sync> fmt::Debug for PerCpu<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::PerCpu;
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn nothing_is_lost() {
        let cells: PerCpu<AtomicU64> = PerCpu::default();
        assert_eq!(cells.iter().count(), 0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        cells.with(|cell| cell.fetch_add(1, Relaxed));
                    }
                });
            }
        });
        let sum: u64 = cells.iter().map(|cell| cell.load(Relaxed)).sum();
        assert_eq!(sum, 4000);
    }
}
