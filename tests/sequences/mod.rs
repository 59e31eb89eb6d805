//! Every order in which two threads can call the crate, on every kernel, checked after each step.
//!
//! The walk is breadth first. A state that was reached before, by another order,
//! is not walked again: what can follow it is the same. So a depth of six covers
//! all sequences of six steps, and not a sample.

mod checks;
mod deep;
mod exits;
mod expect;
mod step;
mod steps;
mod walk;
mod wide;
mod world;
