//! Readers of linked files.

pub mod archive;
mod file;
pub mod hardening;
pub mod listing;
pub mod mutants;
pub mod operations;
pub mod proofs;
pub mod sections;

pub use file::{Elf, parse};
