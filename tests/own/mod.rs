//! The sections of `examples/sections`, aborted at every step.

mod check;
mod events;
mod slab;

/// Aborts in a row.
const ABORTS: usize = 2;
