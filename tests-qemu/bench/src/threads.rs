//! Threads of the standard library.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;

use crate::measure::{each, nanoseconds, tell};

pub fn run() {
    let join = each(|| thread::spawn(|| ()).join());
    let what = "std::thread::spawn and join, on one CPU; under it the shared glibc";
    tell("create+join", "std", join, what);

    let run = AtomicU64::new(0);
    let run: &'static AtomicU64 = Box::leak(Box::new(run));
    let mut started = 0;
    let detach = nanoseconds(|turns| {
        for _ in 0..turns {
            started += 1;
            drop(thread::spawn(|| run.fetch_add(1, Release)));
            while run.load(Acquire) != started {
                thread::yield_now();
            }
        }
    });
    let what = "std::thread::spawn, handle dropped, until it has run; its exit falls into the next turn; one CPU";
    tell("create+detach", "std", detach, what);
}
