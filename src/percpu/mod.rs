//! Per-CPU operations: critical sections that the kernel restarts, or aborts, instead of atomics.
//!
//! [`Slots`] is one slot of data for each CPU (or each concurrency id), [`Current`] the proof that the calling thread
//! may run sections, and each method of `Current` is one operation on the slot of the CPU that the thread is on *at that
//! moment*: its number is read inside the section, and a migration, a preemption or a signal before the committing store
//! makes the whole section undone. An operation has exactly one committing store, its last instruction.
//!
//! An operation that ends with a [`Miss`] has committed nothing. A thread without `Current` (not registered, exiting, a vfork
//! child; or the kernel does not abort sections, see [`SectionSupport`]), or with a miss that another try does not cure,
//! uses shared storage with atomics, never a slot.
//!
//! # Instructions
//!
//! From the call to the return of a function that makes one operation, on the way to the commit, with the number of
//! librseq's C function for the same behind the stroke (version cbdabc45, gcc 12.2 `-O2 -fno-pie`; none where
//! it has no such operation):
//!
//! | | x86_64 | aarch64 | riscv64 |
//! |---|---|---|---|
//! | add | 10 / 14 | 14 / 19 | 14 / 17 |
//! | add through a pointer | 11 / 21 | 16 | 16 |
//! | compare and store | 12 / 17 | 15 / 20 | 14 / 17 |
//! | compare two and store | 18 / 20 | 19 / 23 | 18 / 19 |
//! | compare, store and store | 17 / 19 | 17 / 21 | 17 / 18 |
//! | compare, link and store | 15 / 20 | 17 / 21 | 16 / 18 |
//! | pop | 16 / 23 | 23 / 26 | 17 / 24 |
//! | compare, copy 16 bytes and store | 46 / 123 | 30 / 87 | 40 / 118 |
//!
//! librseq's numbers hold the three instructions that find the area from the thread pointer; here [`Current`] has found
//! it. On the other side its caller has read the CPU's number and formed the address of the slot before the call, which
//! is in the numbers here. Its functions have fewer arguments, and two operations over several words hold up to five
//! instructions here that only move arguments: without the thread pointer's three, compare two and store, and compare,
//! store and store, are one longer here on x86_64 and two on riscv64, and compare, link and store is one longer on
//! riscv64. The sections themselves are pinned in `tests-qemu/golden`, one instruction a line, and so is
//! [`Current::id`]: one load.
//!
//! # Which kernels
//!
//! [`Process::allow_sections`](crate::Process::allow_sections) goes by the kernel's name, which costs nothing and errs on both sides: a
//! distribution's kernel may carry a fix that its version does not show, and an emulated one may register and never abort.
//! [`Process::probe_sections`](crate::Process::probe_sections) looks what the kernel does, with two threads of the caller's
//! that share a [`SectionProbe`]. [`Process::vouched_by`](crate::Process::vouched_by) says which of the two it was.
//!
//! # Who reads and writes
//!
//! A slot may be read by anybody at any time, with atomics. It is written by sections of its own CPU alone, or by
//! somebody who has made sure that none runs there (membarrier's rseq fence).
//!
//! # What tools find
//!
//! Each place where an operation is inlined has a descriptor in the section `__rseq_cs` of the file, a pointer to it in
//! `__rseq_cs_ptr_array`, and in `__rseq_exit_point_array` a pair of addresses for each way out but the commit and the
//! abort: where the critical section starts and where that leads. That is the convention of librseq and of the kernel's own tests. A
//! debugger can step over a section by them, and DynamoRIO, which looks at `__rseq_cs` only in a file without the array of
//! pointers, finds all of them beside those of other libraries. They are kept by every link, with `--gc-sections` or not and with no
//! script for it, for as long as the section itself is; they lie in a loaded, writable segment, and a
//! position-independent program relocates them.
//!
//! # What stays behind
//!
//! After its commit a section leaves the address of its descriptor in the area, and the kernel clears it when it next
//! looks. So the object that holds the sections is not unloaded (`-z nodelete`) while threads live that ran one, unless each
//! has called [`Process::prepare_unload`](crate::Process::prepare_unload) since; a release and the end of a scope clear it
//! for areas of this runtime.

#[doc(hidden)]
#[macro_use]
pub mod template;

mod current;
mod fence;
mod holder;
#[cfg(feature = "inject")]
pub mod inject;
mod operation;
pub(crate) mod probe;
mod slots;
mod support;
mod unload;

#[cfg_attr(target_arch = "x86_64", path = "../../arch/x86_64/sections.rs")]
#[cfg_attr(target_arch = "aarch64", path = "../../arch/aarch64/sections.rs")]
#[cfg_attr(target_arch = "riscv64", path = "../../arch/riscv64/sections.rs")]
pub(crate) mod sections;

#[cfg_attr(target_arch = "x86_64", path = "../../arch/x86_64/probe.rs")]
#[cfg_attr(target_arch = "aarch64", path = "../../arch/aarch64/probe.rs")]
#[cfg_attr(target_arch = "riscv64", path = "../../arch/riscv64/probe.rs")]
mod stand;

pub use current::{Current, RESTARTS};
pub use fence::{DrainError, Fence, Membarrier};
pub use operation::{Commit, Miss, Operation};
pub use probe::{Cause, Causes, Probed, SectionProbe};
pub(crate) use slots::is_cpu;
pub use slots::{CpuId, Index, MmCid, Slots, StorageError};
pub use support::{SectionSupport, VouchedBy};
