//! Which CPU, and how many there can be.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use crate::{here, shards};

/// The number of the CPU that the calling thread runs on: always below [`possible_cpus`], and so an index.
///
/// A moment old when it returns: the thread may be anywhere else by then. It is for spreading work and for statistics,
/// and for indexing what any thread may use; code that needs exclusion uses a [`Counter`](crate::Counter) or a
/// [`Pool`](crate::Pool).
///
/// Where no CPU can be told (systems other than Linux, a filter that refuses getcpu(2)) it is a number of the *thread*,
/// below `possible_cpus()`, the same for its whole life and shared with other threads.
///
/// Cost: a load where the thread has rseq, else a call of sched_getcpu(3). The thread's first use of this crate may
/// register it: see [`on_thread_start`](crate::on_thread_start).
#[must_use]
#[inline(never)]
pub fn current_cpu() -> usize {
    let number = here::cpu().unwrap_or_else(shards::thread_number);
    let limit = possible_cpus();
    if number < limit {
        number
    } else {
        number % limit
    }
}

/// One more than the highest number that [`current_cpu`] can return; at least 1, and the same for the life of the process.
///
/// On Linux the CPUs that the kernel calls *possible*, those included that are offline, or that this thread may not use. Elsewhere
/// [`std::thread::available_parallelism`].
///
/// Cost: a load. The first call in a process reads `/sys/devices/system/cpu/possible`; where that cannot be
/// opened, it is what the kernel's own sets of CPUs have room for, a multiple of 64; and 1 where a filter refuses that too.
#[must_use]
pub fn possible_cpus() -> usize {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    match COUNT.load(Relaxed) {
        0 => {
            let count = here::possible_cpus().max(1);
            // Everybody who comes here finds the same, unless the file has become unreadable: the first answer stays.
            match COUNT.compare_exchange(0, count, Relaxed, Relaxed) {
                Ok(_) => count,
                Err(first) => first,
            }
        }
        count => count,
    }
}
