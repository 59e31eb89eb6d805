//! Sections that break the rules of `docs/sections.md`, and which the tests must detect.

use rseq_rt::percpu::{Index, Miss, Slots};

use super::slab::{BATCH, SLABS, Slabs};
use super::{Attempt, Subject};
use crate::attempt;
use own_sections::slab::Slab;

/// The slab with the head stored before the items: counted items are not there yet.
pub enum HeadFirst {}

/// The slab with the head added to before the commit, so that a restart does it twice.
pub enum AddedBefore {}

macro_rules! broken {
    ($name:ident, $section:ident) => {
        impl Subject for $name {
            const SECTIONS: usize = 1;
            type Data = <Slabs as Subject>::Data;

            fn clear() {
                Slabs::clear();
            }

            fn data(nth: usize, seed: usize) -> Self::Data {
                Slabs::data(nth, seed)
            }

            fn run<I: Index>(
                _: usize,
                attempt: Attempt<'_, I>,
                data: &mut Self::Data,
            ) -> Result<usize, Miss> {
                let slabs = Slots::<I, Slab>::of(&SLABS);
                let (slab, from) = (slabs.address(0), data.as_ptr().expose_provenance());
                // SAFETY: (1) slabs that nobody else uses meanwhile, and a batch at `from`: only the order is broken.
                unsafe { attempt!(attempt, $section, slabs, slab, from, BATCH) }
            }

            fn change(nth: usize, data: &Self::Data, result: usize) -> usize {
                Slabs::change(nth, data, result)
            }

            fn held(slot: usize) -> usize {
                Slabs::held(slot)
            }

            fn sum() -> Option<usize> {
                Slabs::sum()
            }
        }
    };
}

broken!(HeadFirst, head_first);
broken!(AddedBefore, added_before);

#[cfg(target_arch = "x86_64")]
rseq_rt::section! {
    unsafe fn head_first(slab, from, length) else differs with to count i v {
        "add {t}, {slab}",
        "mov {to}, qword ptr [{t}]",
        "lea {count}, [{to} + {length}]",
        "cmp {count}, 56\nja {differs}",
        "mov qword ptr [{t}], {count}",
        "lea {to}, [{t} + {to} * 8 + 64]",
        "mov {i}, {length}",
        "6: mov {v}, qword ptr [{from} + {i} * 8 - 8]",
        "mov qword ptr [{to} + {i} * 8 - 8], {v}",
        "dec {i}\njnz 6b",
        commit { "mov qword ptr [{t}], {count}", "mov qword ptr [{t}], {count}" }
    }
}

#[cfg(target_arch = "x86_64")]
rseq_rt::section! {
    unsafe fn added_before(slab, from, length) else differs with to i v {
        "add {t}, {slab}",
        "mov {to}, qword ptr [{t}]",
        "cmp {to}, 48\nja {differs}",
        "lea {to}, [{t} + {to} * 8 + 64]",
        "add qword ptr [{t}], {length}",
        "lea {i}, [{length} - 1]",
        "6: mov {v}, qword ptr [{from} + {i} * 8]",
        "mov qword ptr [{to} + {i} * 8], {v}",
        "dec {i}\njnz 6b",
        "mov {v}, qword ptr [{from}]",
        commit { "mov qword ptr [{to}], {v}", "mov qword ptr [{to}], {v}" }
    }
}

#[cfg(target_arch = "aarch64")]
rseq_rt::section! {
    unsafe fn head_first(slab, from, length) else differs with to count i v {
        "add {t}, {slab}, {t}, lsl #{shift}",
        "ldr {to}, [{t}]",
        "add {count}, {to}, {length}",
        "cmp {count}, #56\nb.hi {differs}",
        "str {count}, [{t}]",
        "add {to}, {t}, {to}, lsl #3",
        "add {to}, {to}, #64",
        "mov {i}, {length}",
        "6: sub {i}, {i}, #1",
        "ldr {v}, [{from}, {i}, lsl #3]",
        "str {v}, [{to}, {i}, lsl #3]",
        "cbnz {i}, 6b",
        commit { "str {count}, [{t}]", "stlr {count}, [{t}]" }
    }
}

#[cfg(target_arch = "aarch64")]
rseq_rt::section! {
    unsafe fn added_before(slab, from, length) else differs with to i v {
        "add {t}, {slab}, {t}, lsl #{shift}",
        "ldr {to}, [{t}]",
        "cmp {to}, #48\nb.hi {differs}",
        "add {v}, {to}, {length}",
        "add {to}, {t}, {to}, lsl #3",
        "add {to}, {to}, #64",
        "str {v}, [{t}]",
        "sub {i}, {length}, #1",
        "6: ldr {v}, [{from}, {i}, lsl #3]",
        "str {v}, [{to}, {i}, lsl #3]",
        "sub {i}, {i}, #1\ncbnz {i}, 6b",
        "ldr {v}, [{from}]",
        commit { "str {v}, [{to}]", "stlr {v}, [{to}]" }
    }
}

#[cfg(target_arch = "riscv64")]
rseq_rt::section! {
    unsafe fn head_first(slab, from, length) else differs with to count at end v {
        "add {t}, {slab}, {t}",
        "ld {to}, 0({t})",
        "add {count}, {to}, {length}",
        "li {v}, 56",
        "bgtu {count}, {v}, {differs}",
        "sd {count}, 0({t})",
        "slli {to}, {to}, 3",
        "add {to}, {to}, {t}",
        "mv {at}, {from}",
        "slli {end}, {length}, 3",
        "add {end}, {end}, {from}",
        "6: ld {v}, 0({at})",
        "sd {v}, 64({to})",
        "addi {at}, {at}, 8",
        "addi {to}, {to}, 8",
        "bne {at}, {end}, 6b",
        commit { "sd {count}, 0({t})", "fence rw, w\nsd {count}, 0({t})" }
    }
}

#[cfg(target_arch = "riscv64")]
rseq_rt::section! {
    unsafe fn added_before(slab, from, length) else differs with to at end v {
        "add {t}, {slab}, {t}",
        "ld {to}, 0({t})",
        "li {v}, 48",
        "bgtu {to}, {v}, {differs}",
        "add {v}, {to}, {length}",
        "sd {v}, 0({t})",
        "slli {to}, {to}, 3",
        "add {to}, {to}, {t}",
        "slli {at}, {length}, 3",
        "6: addi {at}, {at}, -8",
        "add {end}, {from}, {at}",
        "ld {v}, 0({end})",
        "add {end}, {to}, {at}",
        "beqz {at}, 7f",
        "sd {v}, 64({end})",
        "j 6b\n7:",
        commit { "sd {v}, 64({to})", "fence rw, w\nsd {v}, 64({to})" }
    }
}
