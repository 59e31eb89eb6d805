//! A per-CPU slab. One section moves a whole batch into or out of it; the store of the head index is the commit.

use core::mem::offset_of;
use core::sync::atomic::AtomicUsize;

use rseq_rt::percpu::{Commit, Current, Index, Miss, Slots};

/// Items that a slab holds.
pub const ROOM: usize = 56;

/// The slab of one CPU: `items[..count]` are in it.
#[repr(C, align(512))]
pub struct Slab {
    count: AtomicUsize,
    room: [usize; 7],
    items: [AtomicUsize; ROOM],
}

// The sections contain these as numbers.
const _: () = assert!(offset_of!(Slab, count) == 0 && offset_of!(Slab, items) == 64 && ROOM == 56);

impl Slab {
    /// An empty slab.
    pub const fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            room: [0; 7],
            items: [const { AtomicUsize::new(0) }; ROOM],
        }
    }

    /// The number of items in it.
    pub const fn count(&self) -> &AtomicUsize {
        &self.count
    }

    /// The items; those beyond the count are stale.
    pub const fn items(&self) -> &[AtomicUsize; ROOM] {
        &self.items
    }
}

impl Default for Slab {
    fn default() -> Self {
        Self::new()
    }
}

/// Puts all items of a batch into this CPU's slab, or none.
///
/// # Errors
/// [`Miss`]; `Differs`: there is no room for the batch.
///
/// # Safety
/// 1. The slots are written by this module alone, over one kind of index.
#[inline]
pub unsafe fn push<I: Index>(
    current: Current<'_, I>,
    slabs: Slots<'_, I, Slab>,
    batch: &[usize],
) -> Result<(), Miss> {
    // The section adds two counts.
    if batch.len() > ROOM {
        return Err(Miss::Differs);
    }
    let from = batch.as_ptr().expose_provenance();
    // SAFETY: (1) a slab, by (1), and as many words at `from`.
    unsafe {
        sections::push(
            current,
            slabs,
            Commit::Relaxed,
            slabs.address(0),
            from,
            batch.len(),
        )
    }?;
    Ok(())
}

/// Takes as many items as there are, up to the length of `batch`, from this CPU's slab, and returns how many. The rest of
/// `batch` may have been overwritten.
///
/// # Errors
/// [`Miss`]; `Differs`: the slab is empty.
///
/// # Safety
/// 1. The slots are written by this module alone, over one kind of index.
#[inline]
pub unsafe fn pop<I: Index>(
    current: Current<'_, I>,
    slabs: Slots<'_, I, Slab>,
    batch: &mut [usize],
) -> Result<usize, Miss> {
    let to = batch.as_mut_ptr().expose_provenance();
    // SAFETY: (1) a slab, by (1), and as many words at `to`.
    unsafe {
        sections::pop(
            current,
            slabs,
            Commit::Relaxed,
            slabs.address(0),
            to,
            batch.len(),
            0,
        )
    }
}

/// The critical sections of the slab, for each CPU architecture.
pub mod sections {
    #[cfg(target_arch = "x86_64")]
    rseq_rt::section! {
        /// Copies `length` words at `from` into the slab; `Differs` where there is no room.
        pub unsafe fn push(slab, from, length) else full with to count i v {
            "add {t}, {slab}",
            "mov {to}, qword ptr [{t}]",
            "lea {count}, [{to} + {length}]",
            "cmp {count}, 56\nja {full}",
            "lea {to}, [{t} + {to} * 8 + 64]",
            "mov {i}, {length}",
            "test {i}, {i}\njz 7f",
            "6: mov {v}, qword ptr [{from} + {i} * 8 - 8]",
            "mov qword ptr [{to} + {i} * 8 - 8], {v}",
            "dec {i}\njnz 6b\n7:",
            commit { "mov qword ptr [{t}], {count}", "mov qword ptr [{t}], {count}" }
        }
    }

    #[cfg(target_arch = "x86_64")]
    rseq_rt::section! {
        /// Copies up to `length` words from the slab to `to`; returns how many. `none` is 0.
        pub unsafe fn pop(slab, to, length, none) result taken else none with count from i v {
            "add {t}, {slab}",
            "mov {count}, qword ptr [{t}]",
            "mov {taken}, {length}",
            "cmp {taken}, {count}\ncmova {taken}, {count}",
            "cmp {taken}, {none}\nje 5f",
            "sub {count}, {taken}",
            "lea {from}, [{t} + {count} * 8 + 64]",
            "mov {i}, {taken}",
            "6: mov {v}, qword ptr [{from} + {i} * 8 - 8]",
            "mov qword ptr [{to} + {i} * 8 - 8], {v}",
            "dec {i}\njnz 6b",
            commit { "mov qword ptr [{t}], {count}", "mov qword ptr [{t}], {count}" }
        }
    }

    #[cfg(target_arch = "aarch64")]
    rseq_rt::section! {
        /// Copies `length` words at `from` into the slab; `Differs` where there is no room.
        pub unsafe fn push(slab, from, length) else full with to count i v {
            "add {t}, {slab}, {t}, lsl #{shift}",
            "ldr {to}, [{t}]",
            "add {count}, {to}, {length}",
            "cmp {count}, #56\nb.hi {full}",
            "add {to}, {t}, {to}, lsl #3",
            "add {to}, {to}, #64",
            "mov {i}, {length}",
            "cbz {i}, 7f",
            "6: sub {i}, {i}, #1",
            "ldr {v}, [{from}, {i}, lsl #3]",
            "str {v}, [{to}, {i}, lsl #3]",
            "cbnz {i}, 6b\n7:",
            commit { "str {count}, [{t}]", "stlr {count}, [{t}]" }
        }
    }

    #[cfg(target_arch = "aarch64")]
    rseq_rt::section! {
        /// Copies up to `length` words from the slab to `to`; returns how many. `none` is 0.
        pub unsafe fn pop(slab, to, length, none) result taken else none with count from i v {
            "add {t}, {slab}, {t}, lsl #{shift}",
            "ldr {count}, [{t}]",
            "cmp {length}, {count}\ncsel {taken}, {length}, {count}, lo",
            "cmp {taken}, {none}\nb.eq 5f",
            "sub {count}, {count}, {taken}",
            "add {from}, {t}, {count}, lsl #3",
            "add {from}, {from}, #64",
            "mov {i}, {taken}",
            "6: sub {i}, {i}, #1",
            "ldr {v}, [{from}, {i}, lsl #3]",
            "str {v}, [{to}, {i}, lsl #3]",
            "cbnz {i}, 6b",
            commit { "str {count}, [{t}]", "stlr {count}, [{t}]" }
        }
    }

    #[cfg(target_arch = "riscv64")]
    rseq_rt::section! {
        /// Copies `length` words at `from` into the slab; `Differs` where there is no room.
        pub unsafe fn push(slab, from, length) else full with to count at end v {
            "add {t}, {slab}, {t}",
            "ld {to}, 0({t})",
            "add {count}, {to}, {length}",
            "li {v}, 56",
            "bgtu {count}, {v}, {full}",
            "slli {to}, {to}, 3",
            "add {to}, {to}, {t}",
            "mv {at}, {from}",
            "slli {end}, {length}, 3",
            "add {end}, {end}, {from}",
            "6: beq {at}, {end}, 7f",
            "ld {v}, 0({at})",
            "sd {v}, 64({to})",
            "addi {at}, {at}, 8",
            "addi {to}, {to}, 8",
            "j 6b\n7:",
            commit { "sd {count}, 0({t})", "fence rw, w\nsd {count}, 0({t})" }
        }
    }

    #[cfg(target_arch = "riscv64")]
    rseq_rt::section! {
        /// Copies up to `length` words from the slab to `to`; returns how many. `none` is 0.
        pub unsafe fn pop(slab, to, length, none) result taken else none with count at end from v {
            "add {t}, {slab}, {t}",
            "ld {count}, 0({t})",
            "mv {taken}, {length}",
            "bleu {taken}, {count}, 6f",
            "mv {taken}, {count}",
            "6: beq {taken}, {none}, 5f",
            "sub {count}, {count}, {taken}",
            "slli {from}, {count}, 3",
            "add {from}, {from}, {t}",
            "mv {at}, {to}",
            "slli {end}, {taken}, 3",
            "add {end}, {end}, {to}",
            "7: ld {v}, 64({from})",
            "sd {v}, 0({at})",
            "addi {from}, {from}, 8",
            "addi {at}, {at}, 8",
            "bne {at}, {end}, 7b",
            commit { "sd {count}, 0({t})", "fence rw, w\nsd {count}, 0({t})" }
        }
    }
}
