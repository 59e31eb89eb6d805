//! Every order in which two threads can call the crate, on every kernel, checked after each step.
//!
//! The walk is breadth first. A state reached before, in another order, is not walked again: its continuations are the
//! same. So a depth of six covers all sequences of six steps, rather than a sample.

mod checks;
mod deep;
mod exits;
mod expect;
mod step;
mod steps;
mod walk;
mod wide;
mod world;
