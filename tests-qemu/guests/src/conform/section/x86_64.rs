//! The sections on x86_64.

use core::arch::naked_asm;

use super::{ABORTED, Cs, DONE, LEFT, Words};
use crate::conform::area::Area;

/// The word before each abort handler, here as the operand of a `ud1`.
pub const SIGNATURE: u32 = 0x5305_3053;

pub const STRAIGHT: usize = 6;

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
        ".quad rseq_conform_1, rseq_conform_5 - rseq_conform_1, rseq_conform_abort",
        ".globl rseq_conform_stops",
        ".hidden rseq_conform_stops",
        "rseq_conform_stops:",
        ".quad rseq_conform_0, rseq_conform_1, rseq_conform_2, rseq_conform_3, rseq_conform_4, rseq_conform_5",
        ".popsection",
        "rseq_conform_0: mov [rdi + 8], rsi",
        "rseq_conform_1: mov [rdx], ecx",           // here
        "rseq_conform_2: cmp [rdx + 4], ecx",       // let go?
        "rseq_conform_3: je rseq_conform_4",
        "dec r8",
        "jnz rseq_conform_2",
        "jmp 7f",
        "rseq_conform_4: mov [rdx + 8], ecx",       // the commit
        "rseq_conform_5: mov eax, {done}",
        "ret",
        "7: mov eax, {left}",
        "ret",
        ".byte 0x0f, 0xb9, 0x3d",
        ".long {signature}",
        "rseq_conform_abort: mov eax, {aborted}",
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
        "mov [rdi + 8], rsi",
        "2: mov eax, [rdi + 4]",                    // cpu_id
        "shl rax, 6",
        "add rax, rdx",
        "mov r8, [rax]",
        "3: dec rcx",
        "jnz 3b",
        "inc r8",
        "mov [rax], r8",                            // the commit
        "4: mov eax, {done}",
        "ret",
        ".byte 0x0f, 0xb9, 0x3d",
        ".long {signature}",
        "5: mov eax, {aborted}",
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
    // SAFETY: 1.: rip, the 17th register behind 40 bytes.
    unsafe { context.add(168).cast::<u64>().read() }
}
