//! The world outside: the kernel's ABI and errors, system calls and the seam before them, the libc that may own rseq.

pub mod abi;
pub(crate) mod cpus;
pub(crate) mod error;
pub(crate) mod file;
#[cfg(feature = "interpreter")]
mod interpreter;
pub(crate) mod kernel;
pub(crate) mod mask;
pub(crate) mod syscall;
pub(crate) mod trio;
