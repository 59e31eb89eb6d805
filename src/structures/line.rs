//! Cache lines.

use core::mem::align_of;

/// Sets the alignment of the slot it stands in.
///
/// 128 on x86_64, whose prefetcher fetches lines in pairs, and on aarch64, where lines of 128 bytes exist;
/// 64 on riscv64. Two CPUs that write to one line cost each other more than all atomics that the slots save.
#[cfg_attr(target_arch = "riscv64", repr(align(64)))]
#[cfg_attr(not(target_arch = "riscv64"), repr(align(128)))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Line;

/// Alignment of every slot, in bytes.
pub const LINE: usize = align_of::<Line>();
