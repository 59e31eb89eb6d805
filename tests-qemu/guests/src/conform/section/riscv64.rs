//! The sections on riscv64.

use core::arch::naked_asm;

use super::{ABORTED, Cs, DONE, LEFT, Words};
use crate::conform::area::Area;

/// The word before each abort handler, which is 4-aligned.
pub const SIGNATURE: u32 = 0xf140_1073;

pub const STRAIGHT: usize = 6;

/// See [`Words::stand`]. A round is sign-extended, as the ABI requires and as `lw` reads it.
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
        ".quad rseq_conform_1, rseq_conform_5 - rseq_conform_1, rseq_conform_abort",
        ".globl rseq_conform_stops",
        ".hidden rseq_conform_stops",
        "rseq_conform_stops:",
        ".quad rseq_conform_0, rseq_conform_1, rseq_conform_2, rseq_conform_3, rseq_conform_4, rseq_conform_5",
        ".popsection",
        "rseq_conform_0: sd a1, 8(a0)",
        "rseq_conform_1: sw a3, 0(a2)",             // here
        "rseq_conform_2: lw a5, 4(a2)",             // let go?
        "rseq_conform_3: beq a5, a3, rseq_conform_4",
        "addi a4, a4, -1",
        "bnez a4, rseq_conform_2",
        "j 7f",
        "rseq_conform_4: sw a3, 8(a2)",             // the commit
        "rseq_conform_5: li a0, {done}",
        "ret",
        "7: li a0, {left}",
        "ret",
        ".balign 4",
        ".word {signature}",
        "rseq_conform_abort: li a0, {aborted}",
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
        "sd a1, 8(a0)",
        "2: lwu a5, 4(a0)",                         // cpu_id
        "slli a5, a5, 6",
        "add a5, a5, a2",
        "ld a6, 0(a5)",
        "3: addi a3, a3, -1",
        "bnez a3, 3b",
        "addi a6, a6, 1",
        "sd a6, 0(a5)",                             // the commit
        "4: li a0, {done}",
        "ret",
        ".balign 4",
        ".word {signature}",
        "5: li a0, {aborted}",
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
    // SAFETY: 1.: the first word of the registers.
    unsafe { context.add(176).cast::<u64>().read() }
}
