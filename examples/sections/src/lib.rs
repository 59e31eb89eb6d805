//! Two per-CPU structures with sections written by [`rseq_rt::section!`], using only the public interface.
//!
//! Each module has its slot, the sections for three CPUs in `sections`, and functions over them. `docs/sections.md` of
//! the repository describes their tests.
#![no_std]

pub mod events;
pub mod slab;
