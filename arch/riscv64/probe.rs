//! The section of the probe on riscv64: see [`crate::percpu`]'s `SectionProbe`. Written as those of `sections.rs` are.

use core::arch::asm;

use crate::arch::SIGNATURE;
use crate::percpu::probe::words::{ABORTED, Stand};
use crate::sys::abi::Rseq;

/// Stands in a section: says so, and commits once it is released, or leaves after so many turns. What is left of them, 0 if
/// nobody came, or [`ABORTED`].
///
/// # Safety
/// 1. `area` is the one that the kernel knows for the calling thread, or such a one as it knows for nobody.
pub(crate) unsafe fn stand(area: *const Rseq, stand: &Stand, round: u32, turns: usize) -> usize {
    let left;
    // SAFETY: `rseq_cs` of an area may be set by its thread (1), and the rest is `stand`, whose words are atomics.
    unsafe {
        asm!(
            ".pushsection __rseq_cs, \"aw\", @progbits",
            ".balign 32",
            "3: .long 0, 0",
            ".quad 2f, 5f - 2f, 4f",
            ".popsection",
            "lla {t}, 3b",
            "sd {t}, 8({area})",
            "2:",
            "sw {round}, 0({stand})",                       // here
            "6: lw {t}, 4({stand})",                        // released?
            "beq {t}, {round}, 7f",
            "addi {left}, {left}, -1",
            "bnez {left}, 6b",
            "j 5f",
            "7: sw {round}, 8({stand})",                    // committed
            "5:",
            ".subsection 1",
            ".balign 4",
            ".word {signature}",
            "4: li {left}, {aborted}",
            "j 5b",
            ".previous",
            area = in(reg) area,
            stand = in(reg) stand,
            // As `lw` extends the word that it is compared with.
            round = in(reg) round as i32 as isize,
            left = inout(reg) turns => left,
            t = out(reg) _,
            signature = const SIGNATURE,
            aborted = const ABORTED as isize,
            options(nostack),
        );
    }
    left
}
