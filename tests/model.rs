//! The model: the crate's decisions, in any order of calls and answers, on a simulated kernel.
//!
//! One program, so that the fake kernel is compiled once. One module per topic: `cargo test --test model TOPIC::`.

mod fake;

mod at_exit;
mod clear_tid;
mod config;
mod costs;
mod failures;
mod fuzz;
mod memory;
#[cfg(not(miri))] // No line of it is unsafe, and it takes its time.
mod own;
mod race;
mod report;
mod sections;
mod sequences;
mod slice;
mod structures;
mod unload;
mod values;

// On the host's kernel and libc, which Miri lacks.
#[cfg(not(miri))]
mod glibc;
#[cfg(not(miri))]
mod percpu;
