//! Per-CPU operations: critical sections that the kernel restarts, or aborts, instead of atomics.
//!
//! [`Slots`] is one slot of data for each CPU (or each concurrency id), [`Current`] the proof that the calling thread
//! may run sections, and each method of `Current` is one operation on the slot of the CPU that the thread is on *at that
//! moment*: its number is read inside the section, and a migration, a preemption or a signal before the committing store
//! makes the whole section undone. An operation has exactly one committing store, its last instruction.
//!
//! What may end an operation otherwise is a [`Miss`], and then nothing was committed. Who has no `Current` (the
//! thread is not registered, exits, is a vfork child; the kernel does not abort sections, see [`Sections`]) and whoever
//! meets a miss that another try does not cure uses storage that all share, with atomics: never a slot.
//!
//! A slot may be read by anybody at any time, with atomics. It is written by sections of its own CPU alone, or by
//! somebody who has made sure that none runs there (membarrier's rseq fence).

#[macro_use]
pub(crate) mod template;

mod allowed;
mod current;
#[cfg(feature = "inject")]
pub mod inject;
mod ops;
mod slots;

#[cfg_attr(target_arch = "x86_64", path = "../../arch/x86_64/sections.rs")]
#[cfg_attr(target_arch = "aarch64", path = "../../arch/aarch64/sections.rs")]
#[cfg_attr(target_arch = "riscv64", path = "../../arch/riscv64/sections.rs")]
pub(crate) mod sections;

pub use allowed::Sections;
pub use current::{Current, RESTARTS};
pub use ops::{Commit, Miss};
pub(crate) use slots::Shift;
pub use slots::{CpuId, Index, MmCid, Slots, StorageError};
