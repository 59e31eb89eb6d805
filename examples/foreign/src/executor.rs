//! tokio's workers, those for blocking work included. The area is on the heap: one for each thread, freed as it stops.
//!
//! Freed on the thread itself, so that the release has to come before.

use std::cell::Cell;
use std::io;
use std::ptr::NonNull;

use rseq_rt::Area;
use tokio::runtime::{Builder, Runtime};

use crate::hooks::{self, Memory};

thread_local! {
    static BOXED: Cell<Option<NonNull<Area>>> = const { Cell::new(None) };
}

/// A runtime whose threads are registered.
pub fn build(workers: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(workers)
        .on_thread_start(on_start)
        .on_thread_stop(on_stop)
        .build()
}

fn on_start() {
    let area = NonNull::from(Box::leak(Box::new(Area::new())));
    BOXED.set(Some(area));
    // SAFETY: a new one of this thread's, freed in `on_stop` alone.
    let outcome = unsafe { hooks::start(area.as_ref()) };
    if let Err(error) = outcome {
        eprintln!("a thread of tokio: {error}");
    }
}

fn on_stop() {
    match (hooks::stop(), BOXED.take()) {
        // SAFETY: from Box::leak, and the kernel does not write to it.
        (Ok(Memory::Free), Some(area)) => drop(unsafe { Box::from_raw(area.as_ptr()) }),
        // It stays where it is.
        (Ok(_), _) => {}
        (Err(error), _) => eprintln!("a thread of tokio: {error}"),
    }
}
