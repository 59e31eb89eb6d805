//! Two critical sections in assembly, and their descriptors, which a check may change. They are outside of `__rseq_cs`,
//! which lists the crate's sections.

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

/// The descriptor of [`Words::stand`]'s section.
pub fn stand_cs() -> &'static Cs {
    // SAFETY: nobody writes it.
    unsafe { &STAND }
}

/// The places where a tracer can stop it on its straight path: before it is announced, before each instruction, after
/// the commit.
pub fn stops() -> [u64; STRAIGHT] {
    // SAFETY: nobody writes it.
    unsafe { STOPS }
}

/// The words of the spinning section.
#[repr(C)]
pub struct Words {
    /// Its current round, stored by its first instruction.
    pub here: AtomicU32,
    /// It commits once this equals the round.
    pub go: AtomicU32,
    /// The last committed round.
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

    /// Spins in the section until `go` is the round, or leaves after `turns`; with the ABI's own descriptor.
    pub fn stand(&self, area: &Area, round: u32, turns: usize) -> usize {
        // SAFETY: (1) the section's own descriptor.
        unsafe { self.stand_as(area, stand_cs(), round, turns) }
    }

    /// The same with another descriptor.
    ///
    /// # Safety
    /// 1. The process tolerates whatever the kernel makes of the descriptor.
    pub unsafe fn stand_as(&self, area: &Area, cs: *const Cs, round: u32, turns: usize) -> usize {
        // SAFETY: an area, three words, and the descriptor of (1).
        unsafe { stand(area, cs, self, round, turns) }
    }

    /// Releases the section's current round.
    pub fn release(&self) {
        self.go.store(self.here.load(Relaxed), Relaxed);
    }
}

/// One cache line per CPU number.
pub const SLOT: usize = 64;

/// Adds 1 non-atomically to the word of the CPU, with `turns` iterations between load and store.
///
/// # Safety
/// 1. At `slots` is one word every [`SLOT`] bytes for each CPU, written only by these sections.
pub unsafe fn add_one(area: &Area, slots: *mut u8, turns: usize) -> usize {
    // SAFETY: (1); the section's own descriptor.
    unsafe { add(area, &raw const ADD, slots, turns) }
}
