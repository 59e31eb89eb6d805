//! The sections on aarch64.

use core::arch::naked_asm;

use super::{ABORTED, Cs, DONE, LEFT, Words};
use crate::conform::area::Area;

/// The word before each abort handler: here a `brk`.
pub const SIGNATURE: u32 = 0xd428_bc00;

pub const STRAIGHT: usize = 7;

/// See [`Words::stand`].
///
/// # Safety
/// 1. `area`, `cs` and `words` are valid.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn stand(
    area: *const Area,
    cs: *const Cs,
    words: *const Words,
    round: u32,
    turns: usize,
) -> usize {
    naked_asm!(
        ".pushsection .data.rseq_conform, \"aw\", @progbits",
        ".balign 32",
        ".globl rseq_conform_stand_cs",
        ".hidden rseq_conform_stand_cs",
        "rseq_conform_stand_cs:",
        ".long 0, 0",
        ".quad rseq_conform_1, rseq_conform_6 - rseq_conform_1, rseq_conform_abort",
        ".globl rseq_conform_stops",
        ".hidden rseq_conform_stops",
        "rseq_conform_stops:",
        ".quad rseq_conform_0, rseq_conform_1, rseq_conform_2, rseq_conform_3, rseq_conform_4, rseq_conform_5, rseq_conform_6",
        ".popsection",
        "rseq_conform_0: str x1, [x0, #8]",
        "rseq_conform_1: str w3, [x2]",             // here
        "rseq_conform_2: ldr w5, [x2, #4]",         // let go?
        "rseq_conform_3: cmp w5, w3",
        "rseq_conform_4: b.eq rseq_conform_5",
        "subs x4, x4, #1",
        "b.ne rseq_conform_2",
        "b 7f",
        "rseq_conform_5: str w3, [x2, #8]",         // the commit
        "rseq_conform_6: mov x0, #{done}",
        "ret",
        "7: mov x0, #{left}",
        "ret",
        ".inst {signature}",
        "rseq_conform_abort: mov x0, #{aborted}",
        "ret",
        signature = const SIGNATURE,
        done = const DONE,
        left = const LEFT,
        aborted = const ABORTED,
    )
}

/// See [`super::add_one`].
///
/// # Safety
/// 1. `area` and `cs` are valid, and `slots` has a word for each CPU.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn add(
    area: *const Area,
    cs: *const Cs,
    slots: *mut u8,
    turns: usize,
) -> usize {
    naked_asm!(
        ".pushsection .data.rseq_conform, \"aw\", @progbits",
        ".balign 32",
        ".globl rseq_conform_add_cs",
        ".hidden rseq_conform_add_cs",
        "rseq_conform_add_cs:",
        ".long 0, 0",
        ".quad 2f, 4f - 2f, 5f",
        ".popsection",
        "str x1, [x0, #8]",
        "2: ldr w5, [x0, #4]",                      // cpu_id
        "add x5, x2, x5, lsl #6",
        "ldr x6, [x5]",
        "3: subs x3, x3, #1",
        "b.ne 3b",
        "add x6, x6, #1",
        "str x6, [x5]",                             // the commit
        "4: mov x0, #{done}",
        "ret",
        ".inst {signature}",
        "5: mov x0, #{aborted}",
        "ret",
        signature = const SIGNATURE,
        done = const DONE,
        aborted = const ABORTED,
    )
}

/// The program counter in a handler's ucontext.
///
/// # Safety
/// 1. `context` is the kernel's argument to the handler.
pub unsafe fn counter_of(context: *const u8) -> u64 {
    // SAFETY: 1.: behind the 31 registers and the stack pointer.
    unsafe { context.add(440).cast::<u64>().read() }
}
