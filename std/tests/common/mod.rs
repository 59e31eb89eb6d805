//! What several of the test programs need.
#![allow(dead_code, reason = "each of them needs its part of it")]

use std::time::Duration;

use rseq_rt_std::{Support, support};

/// Says what the threads of the program are to get: `libc`, `own` or `atomics`. Without it anything is right.
pub const EXPECTED: &str = "RSEQ_RT_STD_EXPECTED";

/// Is it what is expected? On a thread that has not ended yet.
pub fn assert_support() {
    let expected = std::env::var(EXPECTED).unwrap_or_default();
    let found = support();
    let right = match expected.as_str() {
        "libc" => found == Support::LibcRegistration,
        "own" => found == Support::OwnRegistration,
        "atomics" => matches!(found, Support::Atomics(_)),
        _ => true,
    };
    assert!(right, "{found}, where {expected} is expected");
}

/// Runs `body` in a fork child. Panics unless it returns `true` there in time.
pub fn in_child(body: impl FnOnce() -> bool) {
    // SAFETY: the child ends by _exit. It allocates and starts threads, which glibc and musl allow for.
    let child = match unsafe { libc::fork() } {
        0 => {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(!matches!(result, Ok(true)))) }
        }
        child => child,
    };
    assert!(child > 0, "fork: {}", std::io::Error::last_os_error());
    let mut status = 0;
    for _ in 0..3000 {
        // SAFETY: writes the local word.
        if unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == child {
            assert_eq!(status, 0, "the child's status, as of waitpid(2)");
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // SAFETY: our own child.
    unsafe { libc::kill(child, libc::SIGKILL) };
    panic!("the child does not end");
}

/// The CPUs that the calling thread may use.
pub fn allowed_cpus() -> Vec<usize> {
    // SAFETY: zero is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes the local set.
    let got = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    assert_eq!(got, 0);
    (0..libc::CPU_SETSIZE as usize)
        // SAFETY: below the size.
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect()
}

/// Binds the calling thread to one CPU.
pub fn run_on(cpu: usize) {
    // SAFETY: zero is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: one of `allowed_cpus`.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: reads the local set.
    let moved = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    assert_eq!(moved, 0);
}
