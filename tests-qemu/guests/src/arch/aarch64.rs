//! aarch64.
//!
//! | what | instructions | why |
//! |---|---|---|
//! | `_start` | `mov x29, xzr`, `mov x30, xzr`, `bl` | sp is 16-aligned by the kernel; a zero frame pointer and link register end the chain |
//! | `clone` | `svc 0`, then `ldp`, `br x16` | both sides return from one instruction; the child's entry and argument wait on its own stack. x16 because that branch is also allowed under BTI |
//! | thread pointer | `msr tpidr_el0`, `mrs tpidr_el0` | user code may write it, no call is needed |
//! | restorer | none | the kernel returns through its vDSO |
//!
//! clone takes tls before ctid here. Reference: AAPCS64, Linux arm64 `CLONE_BACKWARDS`.

use core::arch::{asm, naked_asm};
use linux_raw_sys::general::__NR_clone;

/// The name of this CPU in the host runner.
pub const NAME: &str = "aarch64";

/// The entry point.
///
/// # Safety
/// 1. Only the kernel jumps here, with the initial stack as the ABI lays it out.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _start() -> ! {
    naked_asm!(
        "mov x29, xzr",  // the outermost frame
        "mov x30, xzr",
        "mov x0, sp",    // argc, argv, envp, auxv
        "bl {start}",
        "brk #1",
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
        "mov x5, x3",           // ctid and tls are swapped
        "mov x3, x4",
        "mov x4, x5",
        "mov x8, {nr}",
        "svc 0",
        "cbz x0, 2f",
        "ret",
        "2:",                   // the child
        "mov x29, xzr",
        "mov x30, xzr",
        "ldp x16, x0, [sp], 16", // entry, argument
        "br x16",
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
    unsafe { asm!("msr tpidr_el0, {}", in(reg) block, options(nostack, preserves_flags)) };
}

#[inline]
pub fn thread_pointer() -> *mut u8 {
    let block: *mut u8;
    // Neither `pure` nor `nomem`: forked and cloned children have their own.
    // SAFETY: reads a register of this thread.
    unsafe { asm!("mrs {}, tpidr_el0", out(reg) block, options(nostack, preserves_flags)) };
    block
}

/// Leaves a number in each register that the compiler gives away, so that what the code behind finds in one is what it has
/// put there: an instruction that is missing is not made up for by chance.
#[inline(always)]
pub fn fill_registers() {
    // SAFETY: all that it changes is declared.
    unsafe {
        asm!(
            "mov x0, #0x3c3c",
            "mov x1, x0",
            "mov x2, x0",
            "mov x3, x0",
            "mov x4, x0",
            "mov x5, x0",
            "mov x6, x0",
            "mov x7, x0",
            "mov x8, x0",
            "mov x9, x0",
            "mov x10, x0",
            "mov x11, x0",
            "mov x12, x0",
            "mov x13, x0",
            "mov x14, x0",
            "mov x15, x0",
            "mov x16, x0",
            "mov x17, x0",
            "mov x20, x0",
            "mov x21, x0",
            "mov x22, x0",
            "mov x23, x0",
            "mov x24, x0",
            "mov x25, x0",
            "mov x26, x0",
            "mov x27, x0",
            "mov x28, x0",
            out("x0") _,
            out("x1") _,
            out("x2") _,
            out("x3") _,
            out("x4") _,
            out("x5") _,
            out("x6") _,
            out("x7") _,
            out("x8") _,
            out("x9") _,
            out("x10") _,
            out("x11") _,
            out("x12") _,
            out("x13") _,
            out("x14") _,
            out("x15") _,
            out("x16") _,
            out("x17") _,
            out("x20") _,
            out("x21") _,
            out("x22") _,
            out("x23") _,
            out("x24") _,
            out("x25") _,
            out("x26") _,
            out("x27") _,
            out("x28") _,
            options(nomem, nostack, preserves_flags)
        );
    }
}

/// The address to give to the kernel for this handler of this signal.
pub fn handler_entry(_: i32, handler: usize) -> usize {
    handler
}

/// Makes newly written code visible to execution.
///
/// # Safety
/// 1. Memory of this process, just written.
pub unsafe fn flush_code(at: usize, length: usize) {
    for at in (at..at + length).step_by(4) {
        // SAFETY: 1.
        unsafe {
            asm!("dc cvau, {at}", "dsb ish", "ic ivau, {at}", "dsb ish", "isb", at = in(reg) at);
        }
    }
}

/// The index of the program counter in the order of PTRACE_GETREGSET.
pub const PC: usize = 32;

/// The breakpoint instruction, and its length in bits.
pub const BREAKPOINT: (u64, u32) = (0xd420_0000, 32);

/// Distance of the program counter behind a breakpoint that was hit.
pub const PC_BEYOND_BREAKPOINT: u64 = 0;

pub const CAN_STEP: bool = true;

pub const HAS_EXCLUSIVES: bool = true;

/// Decodes the instructions that a tracer must know.
pub mod decode {
    pub const fn length(_: u32) -> u64 {
        4
    }

    /// LDXR, LDAXR, LDXP and LDAXP, of any size.
    pub const fn is_exclusive_load(code: u32) -> bool {
        code & 0x3fc0_0000 == 0x0840_0000
    }

    /// STXR, STLXR, STXP and STLXP.
    pub const fn is_exclusive_store(code: u32) -> bool {
        code & 0x3fc0_0000 == 0x0800_0000
    }

    /// B.cond, CBZ and CBNZ: the branch distance.
    pub const fn branch(code: u32) -> Option<i64> {
        if code & 0xff00_0000 == 0x5400_0000 || code & 0x7e00_0000 == 0x3400_0000 {
            // Bits 5 to 23, times four.
            Some((((code << 8) as i32) >> 13) as i64 * 4)
        } else {
            None
        }
    }

    /// The program counter: the CPU single-steps.
    pub fn next(_: u32, registers: &[u64]) -> [u64; 2] {
        [registers[super::PC]; 2]
    }
}

/// Offset of a system call's result in a ucontext: x0; the 16-aligned registers follow a set of 1024 signals.
const ANSWER: usize = 176 + 8;

/// Answers a system call trapped by a filter, from its SIGSYS handler.
///
/// # Safety
/// 1. `context` is the kernel's argument to the handler of that very signal.
pub unsafe fn answer_call(context: *mut u8, answer: isize) {
    // SAFETY: 1.: the register's aligned place in it.
    unsafe { context.wrapping_add(ANSWER).cast::<isize>().write(answer) };
}
