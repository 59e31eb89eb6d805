//! riscv64.
//!
//! | what | instructions | why |
//! |---|---|---|
//! | `_start` | `lla gp` under `norelax`, `call` | the linker shortens accesses relative to gp, so gp must be set before any Rust code, and its own load must not be shortened. sp is 16-aligned by the kernel |
//! | `clone` | `ecall`, then `ld`, `ld`, `jr` | both sides return from one instruction; the child's entry and argument wait on its own stack |
//! | thread pointer | `mv tp` | a register of its own, no call is needed |
//! | restorer | none | the kernel returns through its vDSO |
//!
//! clone takes tls before ctid here. `ecall` may lose all vector registers, which every call does in the C ABI too.
//! Reference: RISC-V psABI, Linux riscv `CLONE_BACKWARDS`.

use core::arch::{asm, naked_asm};
use linux_raw_sys::general::{__NR_clone, __NR_riscv_flush_icache};

use crate::sys::raw;

/// The name of this CPU in the host runner.
pub const NAME: &str = "riscv64";

/// The entry point.
///
/// # Safety
/// 1. Only the kernel jumps here, with the initial stack as the ABI lays it out.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _start() -> ! {
    naked_asm!(
        ".option push",
        ".option norelax",
        "lla gp, __global_pointer$",
        ".option pop",
        "li s0, 0",      // the outermost frame
        "li ra, 0",
        "mv a0, sp",     // argc, argv, envp, auxv
        "call {start}",
        "unimp",
        start = sym crate::entry::start,
    )
}

/// clone(2) for a child on its own stack: `sp` points at two words, the entry (`extern "C" fn(*mut u8) -> !`) and its
/// argument.
///
/// # Safety
/// 1. `sp` is 16-aligned and points at the two words, with the child's stack below.
/// 2. `ptid`, `ctid` and `tls` are valid for what `flags` makes the kernel do with them, for as long as it does.
/// 3. Whatever `flags` makes the child share with the parent stays valid until it ends.
#[unsafe(naked)]
pub unsafe extern "C" fn clone(
    flags: usize,
    sp: *mut u8,
    ptid: *mut u32,
    ctid: *mut u32,
    tls: *mut u8,
) -> usize {
    naked_asm!(
        "mv t0, a3",         // ctid and tls are swapped
        "mv a3, a4",
        "mv a4, t0",
        "li a7, {nr}",
        "ecall",
        "beqz a0, 2f",
        "ret",
        "2:",                // the child
        "li s0, 0",
        "li ra, 0",
        "ld t0, 0(sp)",      // entry
        "ld a0, 8(sp)",      // argument
        "addi sp, sp, 16",
        "jr t0",
        nr = const __NR_clone,
    )
}

/// Makes `block` this thread's control block.
///
/// # Safety
/// 1. The first word of `block` holds `block`, and the block outlives the thread.
/// 2. Nothing on this thread uses thread-local storage of another layout.
pub unsafe fn set_thread_pointer(block: *mut u8) {
    // SAFETY: 1., 2.: nothing else reads the register.
    unsafe { asm!("mv tp, {}", in(reg) block, options(nostack, preserves_flags)) };
}

#[inline]
pub fn thread_pointer() -> *mut u8 {
    let block: *mut u8;
    // Neither `pure` nor `nomem`: forked and cloned children have their own.
    // SAFETY: reads a register of this thread.
    unsafe { asm!("mv {}, tp", out(reg) block, options(nostack, preserves_flags)) };
    block
}

/// Leaves a number in each register that the compiler gives away, so that what the code behind finds in one is what it has
/// put there: an instruction that is missing is not made up for by chance.
#[inline(always)]
pub fn fill_registers() {
    // SAFETY: all that it changes is declared.
    unsafe {
        asm!(
            "li t0, 0x3c3c3c3c",
            "mv t1, t0",
            "mv t2, t0",
            "mv t3, t0",
            "mv t4, t0",
            "mv t5, t0",
            "mv t6, t0",
            "mv a0, t0",
            "mv a1, t0",
            "mv a2, t0",
            "mv a3, t0",
            "mv a4, t0",
            "mv a5, t0",
            "mv a6, t0",
            "mv a7, t0",
            "mv s2, t0",
            "mv s3, t0",
            "mv s4, t0",
            "mv s5, t0",
            "mv s6, t0",
            "mv s7, t0",
            "mv s8, t0",
            "mv s9, t0",
            "mv s10, t0",
            "mv s11, t0",
            out("t0") _,
            out("t1") _,
            out("t2") _,
            out("t3") _,
            out("t4") _,
            out("t5") _,
            out("t6") _,
            out("a0") _,
            out("a1") _,
            out("a2") _,
            out("a3") _,
            out("a4") _,
            out("a5") _,
            out("a6") _,
            out("a7") _,
            out("s2") _,
            out("s3") _,
            out("s4") _,
            out("s5") _,
            out("s6") _,
            out("s7") _,
            out("s8") _,
            out("s9") _,
            out("s10") _,
            out("s11") _,
            options(nomem, nostack, preserves_flags)
        );
    }
}

/// The address to give to the kernel for this handler of this signal.
pub fn handler_entry(_: i32, handler: usize) -> usize {
    handler
}

/// Makes newly written code visible to execution on every CPU.
///
/// # Safety
/// 1. Memory of this process, just written.
pub unsafe fn flush_code(at: usize, length: usize) {
    // SAFETY: 1.
    unsafe { raw::call3(__NR_riscv_flush_icache, at, at + length, 0) };
}

/// The index of the program counter in the order of PTRACE_GETREGSET.
pub const PC: usize = 0;

/// The breakpoint instruction, and its length in bits: the compressed one fits anywhere.
pub const BREAKPOINT: (u64, u32) = (0x9002, 16);

/// Distance of the program counter behind a breakpoint that was hit.
pub const PC_BEYOND_BREAKPOINT: u64 = 0;

pub const CAN_STEP: bool = false;

pub const HAS_EXCLUSIVES: bool = true;

/// Decodes the instructions that a tracer must know.
pub mod decode {
    pub const fn length(code: u32) -> u64 {
        if code & 3 == 3 { 4 } else { 2 }
    }

    /// LR.W and LR.D.
    pub const fn is_exclusive_load(code: u32) -> bool {
        code & 0x7f == 0x2f && code >> 27 == 2
    }

    /// SC.W and SC.D.
    pub const fn is_exclusive_store(code: u32) -> bool {
        code & 0x7f == 0x2f && code >> 27 == 3
    }

    /// Bit `from` of the instruction as bit `to` of a distance, with `count - 1` further bits above each.
    const fn field(code: u32, from: u32, count: u32, to: u32) -> i64 {
        ((code >> from & ((1 << count) - 1)) << to) as i64
    }

    /// The conditional branches: their distance.
    pub const fn branch(code: u32) -> Option<i64> {
        if code & 0x7f == 0x63 {
            let low = field(code, 8, 4, 1) | field(code, 25, 6, 5) | field(code, 7, 1, 11);
            Some(low | -field(code, 31, 1, 12))
        } else if code & 3 == 1 && (code >> 13 & 7) >= 6 {
            let low = field(code, 3, 2, 1) | field(code, 10, 2, 3) | field(code, 2, 1, 5);
            Some(low | field(code, 5, 2, 6) | -field(code, 12, 1, 8))
        } else {
            None
        }
    }

    /// JAL and C.J: their distance.
    const fn jump(code: u32) -> Option<i64> {
        if code & 0x7f == 0x6f {
            let low = field(code, 21, 10, 1) | field(code, 20, 1, 11) | field(code, 12, 8, 12);
            Some(low | -field(code, 31, 1, 20))
        } else if code & 3 == 1 && code >> 13 & 7 == 5 {
            let low = field(code, 3, 3, 1) | field(code, 11, 1, 4) | field(code, 2, 1, 5);
            let middle = field(code, 7, 1, 6) | field(code, 6, 1, 7) | field(code, 9, 2, 8);
            Some(low | middle | field(code, 8, 1, 10) | -field(code, 12, 1, 11))
        } else {
            None
        }
    }

    /// JALR, C.JR and C.JALR: the register, and the number added to it.
    const fn jump_by_register(code: u32) -> Option<(u32, i64)> {
        if code & 0x7f == 0x67 {
            Some((code >> 15 & 31, (code as i32 >> 20) as i64))
        } else if code & 0xe07f == 0x8002 && code >> 7 & 31 != 0 {
            Some((code >> 7 & 31, 0))
        } else {
            None
        }
    }

    /// The possible next instructions, after the one at the program counter in `registers`.
    pub fn next(code: u32, registers: &[u64]) -> [u64; 2] {
        let register = |nth: usize| registers[nth];
        let pc = register(super::PC);
        let behind = pc.wrapping_add(length(code));
        if let Some(far) = jump(code) {
            return [pc.wrapping_add_signed(far); 2];
        }
        match (jump_by_register(code), branch(code)) {
            // The program counter is in the place of x0, which is 0.
            (Some((0, far)), _) => [far as u64 & !1; 2],
            (Some((nth, far)), _) => [register(nth as usize).wrapping_add_signed(far) & !1; 2],
            (None, Some(far)) => [behind, pc.wrapping_add_signed(far)],
            (None, None) => [behind; 2],
        }
    }
}

/// Offset of a system call's result in a ucontext: a0, the 11th of the 16-aligned registers after 1024 signal bits.
const ANSWER: usize = 176 + 10 * 8;

/// Answers a system call trapped by a filter, from its SIGSYS handler.
///
/// # Safety
/// 1. `context` is the kernel's argument to the handler of that very signal.
pub unsafe fn answer_call(context: *mut u8, answer: isize) {
    // SAFETY: 1.: the register's aligned place in it.
    unsafe { context.wrapping_add(ANSWER).cast::<isize>().write(answer) };
}
