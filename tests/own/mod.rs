//! The sections of `examples/sections`, aborted at every step.

mod check;
mod events;
mod slab;

/// Aborts in a row. Under Miri, which takes its time, one shows what is to be shown.
const ABORTS: usize = if cfg!(miri) { 1 } else { 2 };
