#![doc = include_str!("../README.md")]
//!
//! # Features
//!
//! * `interpreter`, on by default: finds a libc's `__rseq_*` in the dynamic linker's tables where the program's linker left
//!   the weak references null. 600 bytes; a runtime that is the libc, or runs without one, does without.
//! * `inject`, for tests alone: a second copy of each critical section, which stops where a test wants.
//!
//! Links in this text lead to files of the package: on docs.rs they are under "Source". The life of a thread is at
//! [`State`].
#![no_std]
#![deny(missing_docs, unsafe_op_in_unsafe_fn)]
#![deny(clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]

// By the name of the crate that does the same: into a macro of that name rustfmt follows `mod`.
macro_rules! cfg_if {
    (if #[cfg($target:meta)] { $($item:item)* } else { $($error:item)* }) => {
        $(#[cfg($target)] $item)*
        $(#[cfg(not($target))] $error)*
    };
}

// Outside: `#[macro_export]` does not reach out of another macro.
#[cfg(all(
    target_os = "linux",
    target_pointer_width = "64",
    target_endian = "little",
    any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64"
    )
))]
pub mod percpu;

cfg_if! {
    if #[cfg(all(
        target_os = "linux",
        target_pointer_width = "64",
        target_endian = "little",
        any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"),
    ))] {
        pub mod linker;
        mod process;
        mod report;
        pub mod structures;
        mod sys;
        mod thread;

        #[cfg_attr(target_arch = "x86_64", path = "../arch/x86_64.rs")]
        #[cfg_attr(target_arch = "aarch64", path = "../arch/aarch64.rs")]
        #[cfg_attr(target_arch = "riscv64", path = "../arch/riscv64.rs")]
        pub mod arch;

        pub use process::Process;
        pub use process::config::{Claim, Config};
        pub use process::state::{Owner, Reason, State};
        pub use report::remedy::Remedy;
        pub use report::values::{Behaviour, Report, SliceAnswer};
        pub use sys::abi;
        pub use sys::error::{Errno, Error};
        pub use sys::kernel::{Kernel, Linux};
        pub use sys::mask::SignalMask;
        pub use sys::trio::{Trio, TrioAddresses};
        pub use thread::Thread;
        pub use thread::area::Area;
        pub use thread::at_exit::{AtExit, Callback};
        pub use thread::deferred::Deferred;
        pub use thread::exit::{ClearTidPlace, Exit, ExitMode, Gone, Kept};
        pub use thread::fork::Lent;
        pub use thread::reclaim::{ClearTid, Reclaimed};
        pub use thread::scoped::Scoped;
        pub use thread::slice::{Slice, SliceEnd, SliceRequest};
    } else {
        compile_error!(
            "rseq-rt needs Linux on x86_64, aarch64 or riscv64, 64-bit and little-endian; rseq-rt-std has atomics elsewhere"
        );
    }
}
