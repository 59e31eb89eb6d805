//! The current CPU, and the number of possible CPUs.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use crate::{here, shards};

/// The number of the CPU that the calling thread runs on: always below [`possible_cpus`], and so an index.
///
/// The result may be stale: the thread may have moved when this returns. Use it to spread work, for statistics, or as
/// an index of data that any thread may use. Code that needs exclusion uses a [`Counter`](crate::Counter) or a
/// [`Pool`](crate::Pool).
///
/// Where the CPU is unknown (systems other than Linux, a filter that refuses getcpu(2)) it is a number of the *thread*,
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

/// One more than the highest number that [`current_cpu`] can return; at least 1, and the same for the life of the
/// process.
///
/// On Linux, the CPUs that the kernel calls *possible*, including those that are offline or that this thread may not use.
/// Elsewhere, [`std::thread::available_parallelism`].
///
/// Cost: a load. The first call in a process reads `/sys/devices/system/cpu/possible`. If that cannot be opened, the
/// result is the size of the kernel's own CPU sets, a multiple of 64; or 1 if a filter refuses that too.
#[must_use]
pub fn possible_cpus() -> usize {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    match COUNT.load(Relaxed) {
        0 => {
            let count = here::possible_cpus().max(1);
            // Every caller finds the same number, unless the file has become unreadable: the first answer stays.
            match COUNT.compare_exchange(0, count, Relaxed, Relaxed) {
                Ok(_) => count,
                Err(first) => first,
            }
        }
        count => count,
    }
}
