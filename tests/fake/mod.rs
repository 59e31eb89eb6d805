//! A kernel that answers as the table says, for one process of two threads.
//!
//! It touches the areas only through the pointers that rseq(2) gets, and only
//! with atomic accesses, so that Miri can run everything above it.
#![allow(dead_code, reason = "each test program uses its own part of it")]

pub mod answers;
pub mod calls;
pub mod generation;
pub mod machine;
pub mod signal;
pub mod task;

#[allow(unused_imports, reason = "as above")]
pub use answers::{Answer, Answers, Call, Filter, Foreign, Memory, PLAIN};
pub use generation::Generation;
pub use machine::Machine;

use rseq_rt::Config;

/// What a program on this kernel makes of its auxv.
pub fn config(generation: Generation) -> Config {
    Config::new(
        generation.auxv.map(|(size, _)| size),
        generation.auxv.map(|(_, align)| align),
    )
}
