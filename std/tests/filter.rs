//! Filters (seccomp) installed after threads exist. Each test installs its filter in a child only.
#![cfg(target_os = "linux")]

mod common;

use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::Duration;

use common::{LibcThread, in_child, refuse};
use rseq_rt_std::{
    Counter, Item, Pool, Support, current_cpu, on_thread_start, possible_cpus, support,
};

static COUNT: Counter = Counter::new();
static POOL: Pool<u64> = Pool::new();

fn uses_everything() {
    COUNT.add(1);
    POOL.push(Item::new(1));
    let _ = POOL.pop();
    assert!(current_cpu() < possible_cpus());
}

/// Registered threads end normally, detached ones too; later threads use atomics.
#[test]
fn a_late_filter_kills_nobody() {
    static FILTERED: Barrier = Barrier::new(5);
    static BEFORE: OnceLock<Support> = OnceLock::new();
    in_child(|| {
        let before = *BEFORE.get_or_init(support);
        let threads = [(); 4].map(|()| {
            LibcThread::start(|| {
                uses_everything();
                FILTERED.wait();
                FILTERED.wait();
                uses_everything();
                BEFORE.get() == Some(&support())
            })
        });
        FILTERED.wait();
        let refused = refuse(&[libc::SYS_rseq]).is_ok();
        FILTERED.wait();
        let right = refused && threads.map(LibcThread::join) == [true; 4];
        // glibc itself aborts where a new thread is refused and the first one was not.
        let others = if before == Support::LibcRegistration {
            0
        } else {
            50
        };
        for number in 0..others {
            let thread = LibcThread::start(|| {
                uses_everything();
                matches!(support(), Support::Atomics(_))
            });
            if number % 2 == 1 {
                thread.detach();
            } else if !thread.join() {
                return false;
            }
        }
        thread::sleep(Duration::from_millis(50));
        right && COUNT.sum() >= 8 + others / 2
    });
}

/// The release of a detached thread is refused, and musl unmaps its memory.
#[test]
fn a_late_filter_meets_detached_threads() {
    static READY: Barrier = Barrier::new(9);
    static FILTERED: Barrier = Barrier::new(9);
    in_child(|| {
        for _ in 0..8 {
            let thread = LibcThread::start(|| {
                uses_everything();
                READY.wait();
                FILTERED.wait();
                true
            });
            thread.detach();
        }
        READY.wait();
        let refused = refuse(&[libc::SYS_rseq]).is_ok();
        FILTERED.wait();
        thread::sleep(Duration::from_millis(200));
        refused && COUNT.sum() == 8
    });
}

/// No system call of this crate is allowed.
#[test]
fn a_filter_that_refuses_everything() {
    let calls = [
        libc::SYS_rseq,
        libc::SYS_getcpu,
        libc::SYS_membarrier,
        libc::SYS_sched_getaffinity,
        libc::SYS_sched_setaffinity,
        libc::SYS_rt_sigprocmask,
        libc::SYS_openat,
        libc::SYS_uname,
    ];
    // Before and after the first use.
    for used in [false, true] {
        in_child(|| {
            if used {
                on_thread_start();
                uses_everything();
            }
            if refuse(&calls).is_err() {
                return false;
            }
            uses_everything();
            for _ in 0..10 {
                POOL.push(Item::new(2));
            }
            let before = COUNT.sum();
            (0..100).for_each(|_| COUNT.add(1));
            let drained = POOL.drain();
            drained.len() <= 10 && COUNT.sum() == before + 100
        });
    }
}
