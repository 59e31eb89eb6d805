//! rayon's workers. The areas are the pool's: one for each index, and freed with the pool.
//!
//! Nobody joins a worker. The pool's memory goes when the last of them has let go of the pool, at which time it still
//! is a task that the kernel writes to: hence the release.

use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use rseq_rt::Area;

use crate::hooks::{self, Memory};

/// A pool whose workers are registered.
pub fn build(workers: usize) -> Result<ThreadPool, ThreadPoolBuildError> {
    let areas: Arc<[Area]> = (0..workers).map(|_| Area::new()).collect();
    let at_stop = Arc::clone(&areas);
    ThreadPoolBuilder::new()
        .num_threads(workers)
        .start_handler(move |index| {
            let area: *const Area = &raw const areas[index];
            // SAFETY: the stop handler owns the areas too, and leaks them rather than free one that is in use.
            let area = unsafe { &*area };
            // SAFETY: start (1): an index is one worker's.
            if let Err(error) = unsafe { hooks::start(area) } {
                eprintln!("worker {index}: {error}");
            }
        })
        .exit_handler(move |index| {
            let stopped = hooks::stop();
            if stopped != Ok(Memory::Free) {
                // After an error too: where a late filter refuses the mask, nothing was released.
                std::mem::forget(Arc::clone(&at_stop));
            }
            if let Err(error) = stopped {
                eprintln!("worker {index}: {error}");
            }
        })
        .build()
}
