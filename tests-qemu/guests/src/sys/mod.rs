//! Typed system calls, one topic per file. The tests want the kernel's answers, so nothing here is retried or hidden.

pub mod futex;
pub mod io;
pub mod mm;
pub mod process;
pub mod ptrace;
pub mod raw;
pub mod rseq;
pub mod sched;
pub mod signal;
pub mod task;
pub mod time;
