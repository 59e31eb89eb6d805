//! Two structures per CPU whose sections are written with [`rseq_rt::section!`], by the public interface alone.
//!
//! Each module has its slot, the sections of three CPUs in `sections`, and functions over them. How they are tested is
//! in `docs/sections.md` of the repository.
#![no_std]

pub mod events;
pub mod slab;
