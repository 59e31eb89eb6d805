//! The system calls that rustix does not offer, and the console.

use core::fmt;
use core::time::Duration;

use linux_raw_sys::general::{
    __kernel_timespec, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLONE_CHILD_CLEARTID,
    CLONE_FILES, CLONE_FS, CLONE_SETTLS, CLONE_SIGHAND, CLONE_SYSVSEM, CLONE_THREAD, CLONE_VM,
};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::thread::NanosleepRelativeResult;
use sc::nr;

/// A thread of this process with a thread pointer of its own, whose end is reported in its clear-tid word.
pub const CLONE_FLAGS: usize = (CLONE_VM
    | CLONE_FS
    | CLONE_FILES
    | CLONE_SIGHAND
    | CLONE_THREAD
    | CLONE_SYSVSEM
    | CLONE_SETTLS
    | CLONE_CHILD_CLEARTID) as usize;

/// exit_group(2).
pub fn exit_group(status: i32) -> ! {
    loop {
        // SAFETY: ends the process.
        unsafe { sc::syscall1(nr::EXIT_GROUP, status as usize) };
    }
}

/// The monotonic clock, in nanoseconds.
pub fn now() -> u64 {
    clock(CLOCK_MONOTONIC)
}

/// The CPU time of this process so far, in nanoseconds.
pub fn process_time() -> u64 {
    clock(CLOCK_PROCESS_CPUTIME_ID)
}

fn clock(clock: u32) -> u64 {
    let mut now = __kernel_timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let to = (&raw mut now).expose_provenance();
    // These clocks always exist.
    // SAFETY: writes `now`.
    unsafe { sc::syscall2(nr::CLOCK_GETTIME, clock as usize, to) };
    (now.tv_sec as u64).wrapping_mul(1_000_000_000) + now.tv_nsec as u64
}

/// Sleeps for `span`, or until a handler has run.
pub fn sleep(span: Duration) -> NanosleepRelativeResult {
    match span.try_into() {
        Ok(span) => rustix::thread::nanosleep(&span),
        Err(_) => NanosleepRelativeResult::Err(Errno::INVAL),
    }
}

/// For [`println!`](crate::println!): one write(2) a line, so that those of several carriers do not mix.
pub fn print_line(line: fmt::Arguments<'_>) {
    let text = alloc::format!("{line}\n");
    let mut rest = text.as_bytes();
    // SAFETY: borrow_raw: standard output is never closed.
    let output = unsafe { BorrowedFd::borrow_raw(1) };
    // A console takes the whole line; the loop is for a full pipe.
    while !rest.is_empty()
        && let Ok(written @ 1..) = rustix::io::write(output, rest)
    {
        rest = &rest[written..];
    }
}

/// `println!` as in std.
#[macro_export]
macro_rules! println {
    ($($argument:tt)+) => { $crate::sys::print_line(format_args!($($argument)+)) };
}
