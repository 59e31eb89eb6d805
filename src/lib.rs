#![doc = include_str!("../README.md")]
//!
//! Paths in this text are those of the repository. The life of a thread is at [`State`].
#![no_std]
#![deny(missing_docs, unsafe_op_in_unsafe_fn)]
#![deny(clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]

pub mod abi;
mod area;
mod at_exit;
mod config;
mod current;
mod deferred;
mod error;
mod exit;
mod foreign;
mod fork;
#[cfg(feature = "interpreter")]
mod interpreter;
mod kernel;
pub mod linker;
mod mask;
pub mod percpu;
mod process;
mod reclaim;
mod register;
mod scoped;
mod slice;
mod state;
pub mod structures;
mod syscall;
mod thread;
mod trio;
mod word;

#[cfg_attr(target_arch = "x86_64", path = "../arch/x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "../arch/aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "../arch/riscv64.rs")]
pub mod arch;

pub use area::Area;
pub use at_exit::{AtExit, Callback};
pub use config::{Claim, Config};
pub use deferred::Deferred;
pub use error::{Errno, Error};
pub use exit::{ClearTidPlace, Exit, ExitMode, Gone, Kept};
pub use fork::Lent;
pub use kernel::{Kernel, Linux};
pub use mask::SignalMask;
pub use process::Process;
pub use reclaim::{ClearTid, Reclaimed};
pub use scoped::Scoped;
pub use slice::{SliceEnd, SliceRequest};
pub use state::{Owner, Reason, State};
pub use thread::Thread;
pub use trio::{Trio, TrioAddresses};

#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    target_endian = "little"
)))]
compile_error!("rseq-rt needs Linux on x86_64, aarch64 or riscv64, 64-bit and little-endian");
