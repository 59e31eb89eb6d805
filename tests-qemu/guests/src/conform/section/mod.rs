//! Two critical sections in assembly, and their descriptors, which a check may change: not in `__rseq_cs`, where the
//! sections of the crate are listed.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::area::Area;

#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "riscv64.rs")]
mod this;

pub use this::{SIGNATURE, STRAIGHT, counter_of};
use this::{add, stand};

/// The ends of a section.
pub const LEFT: usize = 1;
pub const DONE: usize = 2;
pub const ABORTED: usize = 3;

/// `struct rseq_cs`.
#[repr(C, align(32))]
#[derive(Clone, Copy)]
pub struct Cs {
    pub version: u32,
    pub flags: u32,
    pub start_ip: u64,
    pub post_commit_offset: u64,
    pub abort_ip: u64,
}

unsafe extern "C" {
    #[link_name = "rseq_conform_stand_cs"]
    static STAND: Cs;
    #[link_name = "rseq_conform_add_cs"]
    static ADD: Cs;
    #[link_name = "rseq_conform_stops"]
    static STOPS: [u64; STRAIGHT];
}

/// The section that stands: of [`Words::stand`].
pub fn stand_cs() -> &'static Cs {
    // SAFETY: nobody writes it.
    unsafe { &STAND }
}

/// Where a tracer can stop it on its straight way: before it is announced, before each of its instructions, behind the
/// commit.
pub fn stops() -> [u64; STRAIGHT] {
    // SAFETY: nobody writes it.
    unsafe { STOPS }
}

/// The words of the section that stands.
#[repr(C)]
pub struct Words {
    /// The round that it is in, stored by its first instruction.
    pub here: AtomicU32,
    /// It commits once this is the round.
    pub go: AtomicU32,
    /// The round that it has committed.
    pub done: AtomicU32,
}

impl Words {
    #[allow(clippy::new_without_default)] // nobody needs a second way
    pub const fn new() -> Self {
        Self {
            here: AtomicU32::new(0),
            go: AtomicU32::new(0),
            done: AtomicU32::new(0),
        }
    }

    /// Stands in the section until `go` is the round, or leaves after so many turns; with the ABI's own descriptor.
    pub fn stand(&self, area: &Area, round: u32, turns: usize) -> usize {
        // SAFETY: (1) the section's own descriptor.
        unsafe { self.stand_as(area, stand_cs(), round, turns) }
    }

    /// The same with another descriptor.
    ///
    /// # Safety
    /// 1. Whatever the kernel makes of the descriptor is borne.
    pub unsafe fn stand_as(&self, area: &Area, cs: *const Cs, round: u32, turns: usize) -> usize {
        // SAFETY: an area, three words, and the descriptor of (1).
        unsafe { stand(area, cs, self, round, turns) }
    }

    /// The round that it stands in, to be let go.
    pub fn release(&self) {
        self.go.store(self.here.load(Relaxed), Relaxed);
    }
}

/// One slot of a line for each number of a CPU.
pub const SLOT: usize = 64;

/// Adds 1, without an atomic, to the word of the CPU; `turns` between its load and its store.
///
/// # Safety
/// 1. At `slots` is a word each [`SLOT`] bytes for each CPU, written by these sections alone.
pub unsafe fn add_one(area: &Area, slots: *mut u8, turns: usize) -> usize {
    // SAFETY: (1); the section's own descriptor.
    unsafe { add(area, &raw const ADD, slots, turns) }
}
