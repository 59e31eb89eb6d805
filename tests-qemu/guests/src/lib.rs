//! The runtime of the freestanding guests, and their test harness. From the bottom up: [`arch`] and [`sys`] are the CPU
//! and the kernel; [`stack`], [`tcb`] and [`thread`] provide threads whose end the caller controls; [`signals`],
//! [`seccomp`], [`trace`] and [`stepper`] disturb and watch them; [`harness`] runs tests, each in its own process.
//!
//! No libc, no allocator, no thread-local storage, and no reachable panic in the shipped images: see [`mod@panic`].
#![no_std]

pub mod arch;
pub mod breakpoint;
pub mod conform;
pub mod console;
pub mod demo;
pub mod entry;
pub mod errno;
pub mod exclusive;
pub mod harness;
pub mod hooked;
pub mod hooks;
pub mod hotplug;
pub mod linux;
pub mod mem;
pub mod panic;
pub mod percpu;
pub mod played;
pub mod runtime_tests;
pub mod seccomp;
pub mod signals;
pub mod stack;
pub mod stepper;
pub mod structures;
pub mod sys;
pub mod tcb;
pub mod text;
pub mod thread;
pub mod trace;
pub mod witness;
