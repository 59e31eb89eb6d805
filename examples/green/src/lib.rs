//! A green-thread runtime on rseq-rt: M carriers run N green threads.
//!
//! Freestanding: no libc. The stacks are mapped here, the switch between them
//! is corosensei's, and waiting is done on a futex. `main.rs` is a program on
//! it that counts words.
//!
//! ```text
//! spawn, wake ──> RunQueue::push ─────────┐
//!                                         v
//!  switch::{yield_now, join, sleep} <── Runtime::run, on each carrier ──> RunQueue::pop, ::steal ──> Idle::wait
//! ```
//!
//! rseq belongs to the *carrier*: its area lies in the carrier's control block,
//! and a green thread may be on another carrier after any switch. So an area, a
//! [`Carrier`](carrier::Carrier) or a `percpu::Current` is never kept across
//! one; [`carrier::here`] lends the current one to a closure that cannot switch.
#![no_std]

extern crate alloc;

mod arch;
pub mod arguments;
pub mod bench;
pub mod carrier;
pub mod count;
pub mod files;
pub mod green;
pub mod idle;
pub mod queue;
pub mod runtime;
pub mod slots;
pub mod stacks;
pub mod switch;
pub mod sys;
pub mod timers;
pub mod words;

/// The heap of the example: paths, timers, queues.
#[global_allocator]
static HEAP: rustix_dlmalloc::GlobalDlmalloc = rustix_dlmalloc::GlobalDlmalloc;
