//! The section of the probe on x86_64: see [`crate::percpu`]'s `SectionProbe`. Written as those of `sections.rs` are.

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
            "lea {t}, [rip + 3b]",
            "mov qword ptr [{area} + 8], {t}",
            "2:",
            "mov dword ptr [{stand}], {round:e}",           // here
            "6: cmp dword ptr [{stand} + 4], {round:e}",    // released?
            "je 7f",
            "dec {left}",
            "jnz 6b",
            "jmp 5f",
            "7: mov dword ptr [{stand} + 8], {round:e}",    // committed
            "5:",
            ".subsection 1",
            ".byte 0x0f, 0xb9, 0x3d",
            ".long {signature}",
            "4: mov {left}, {aborted}",
            "jmp 5b",
            ".previous",
            area = in(reg) area,
            stand = in(reg) stand,
            round = in(reg) round,
            left = inout(reg) turns => left,
            t = out(reg) _,
            signature = const SIGNATURE,
            aborted = const ABORTED as isize,
            options(nostack),
        );
    }
    left
}
