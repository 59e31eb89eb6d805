//! std's threads. The area lies in the thread's own memory.
//!
//! musl unmaps that memory on the thread itself when nobody joins it, and a library's thread-locals may be freed while
//! the thread still runs: hence the release. glibc alone would do without, for it reuses a stack after clear-tid only.

use std::thread::{self, JoinHandle};

use rseq_rt::{Area, Error};

use crate::hooks::{self, Memory};

thread_local! {
    // Without a destructor, and so there to the end.
    static AREA: Area = const { Area::new() };
}

/// Stops the thread however its body ends.
struct Stop;

impl Drop for Stop {
    fn drop(&mut self) {
        if hooks::stop() != Ok(Memory::Free) {
            // The memory would be unmapped, or be another thread's, while the kernel writes to it: stay.
            loop {
                thread::park();
            }
        }
    }
}

/// As `std::thread::spawn`, with the hooks.
pub fn spawn(body: impl FnOnce() + Send + 'static) -> JoinHandle<Result<(), Error>> {
    thread::spawn(move || {
        let area = AREA.with(|area| {
            // SAFETY: the memory stays as long as the thread runs, and nothing runs on it after `Stop`.
            unsafe { &*std::ptr::from_ref(area) }
        });
        // SAFETY: start (1): this thread's own, and `Stop` does not let it end before.
        unsafe { hooks::start(area) }?;
        let _stop = Stop;
        body();
        Ok(())
    })
}
