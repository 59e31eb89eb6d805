//! x86_64.
//!
//! | what | instructions | why |
//! |---|---|---|
//! | `_start` | `and rsp, -16`, `call` | the ABI wants rsp 16-aligned *before* the call; the kernel's word at rsp is argc, so the pointer to it is taken first |
//! | `clone` | `syscall`, then `pop`, `push 0`, `jmp` | both sides return from one instruction; the child's entry and argument wait on its own stack, as it has no other. The pushed 0 is the return address that ends the chain |
//! | thread pointer | `arch_prctl(ARCH_SET_FS)`, `mov rax, fs:[0]` | user code may not write fs on every machine, so the kernel is asked; to read it, the first word of the control block points at itself |
//! | restorer | `mov eax, 15; syscall` | the kernel puts no return code on the stack here and refuses a handler without SA_RESTORER |
//!
//! `syscall` clobbers only rcx and r11. Reference: System V ABI, AMD64 supplement, sections 3.2 and A.2.

use core::arch::{asm, naked_asm};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use linux_raw_sys::general::{__NR_arch_prctl, __NR_clone, __NR_rt_sigreturn, ARCH_SET_FS};

use crate::sys::raw;

/// The name of this CPU in the host runner.
pub const NAME: &str = "x86_64";

/// The entry point.
///
/// # Safety
/// 1. Only the kernel jumps here, with the initial stack as the ABI lays it out.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _start() -> ! {
    naked_asm!(
        "xor ebp, ebp",  // the outermost frame
        "mov rdi, rsp",  // argc, argv, envp, auxv
        "and rsp, -16",
        "call {start}",
        "ud2",
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
        "mov r10, rcx",      // ctid; syscall clobbers rcx
        "mov eax, {nr}",     // flags, sp, ptid and tls are in place
        "syscall",
        "test rax, rax",
        "jz 2f",
        "ret",
        "2:",                // the child
        "xor ebp, ebp",
        "pop rax",           // entry
        "pop rdi",           // argument
        "push 0",            // a call would have pushed a return address
        "jmp rax",
        nr = const __NR_clone,
    )
}

/// Makes `block` this thread's control block.
///
/// # Safety
/// 1. The first word of `block` holds `block`, and the block outlives the thread.
/// 2. Nothing on this thread uses thread-local storage of another layout.
pub unsafe fn set_thread_pointer(block: *mut u8) {
    // SAFETY: 1., 2.: the kernel only stores the value in fs.
    unsafe { raw::call2(__NR_arch_prctl, ARCH_SET_FS as usize, block.addr()) };
}

#[inline]
pub fn thread_pointer() -> *mut u8 {
    let block: *mut u8;
    // Neither `pure` nor `nomem`: forked and cloned children have their own.
    // SAFETY: the entry code sets fs before anything else runs, and the first
    // word of each block points at the block.
    unsafe { asm!("mov {}, fs:[0]", out(reg) block, options(nostack, preserves_flags)) };
    block
}

/// Leaves a number in each register that the compiler gives away, so that what the code behind finds in one is what it has
/// put there: an instruction that is missing is not made up for by chance.
#[inline(always)]
pub fn fill_registers() {
    // SAFETY: all that it changes is declared.
    unsafe {
        asm!(
            "mov eax, 0x3c3c3c3c",
            "mov rcx, rax",
            "mov rdx, rax",
            "mov rsi, rax",
            "mov rdi, rax",
            "mov r8, rax",
            "mov r9, rax",
            "mov r10, rax",
            "mov r11, rax",
            "mov r12, rax",
            "mov r13, rax",
            "mov r14, rax",
            "mov r15, rax",
            out("rax") _,
            out("rcx") _,
            out("rdx") _,
            out("rsi") _,
            out("rdi") _,
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
            out("r12") _,
            out("r13") _,
            out("r14") _,
            out("r15") _,
            options(nomem, nostack, preserves_flags)
        );
    }
}

static HANDLERS: [AtomicUsize; 65] = [const { AtomicUsize::new(0) }; 65];

/// The address to give to the kernel for this handler of this signal. qemu-user before 9.1 enters it with a misaligned
/// stack pointer (not a multiple of 16), with which code vectorized by the compiler faults.
pub fn handler_entry(signal: i32, handler: usize) -> usize {
    #[unsafe(naked)]
    unsafe extern "C" fn aligned() {
        naked_asm!(
            "push rbp",
            "mov rbp, rsp",
            "and rsp, -16",
            "movsxd rax, edi",
            "lea rcx, [rip + {handlers}]",
            "call qword ptr [rcx + 8 * rax]",
            "leave",
            "ret",
            handlers = sym HANDLERS,
        )
    }
    match HANDLERS.get(signal as usize) {
        Some(entry) => {
            entry.store(handler, Relaxed);
            aligned as *const () as usize
        }
        None => handler,
    }
}

/// The return address of handlers.
///
/// # Safety
/// 1. Only a handler called by the kernel returns here.
#[unsafe(naked)]
pub unsafe extern "C" fn restorer() {
    naked_asm!("mov eax, {nr}", "syscall", "ud2", nr = const __NR_rt_sigreturn)
}

/// Makes newly written code visible to execution.
///
/// # Safety
/// 1. Memory of this process, just written.
pub unsafe fn flush_code(_: usize, _: usize) {}

/// The index of the program counter in the order of PTRACE_GETREGSET.
pub const PC: usize = 16;

/// The breakpoint instruction, and its length in bits.
pub const BREAKPOINT: (u64, u32) = (0xcc, 8);

/// Distance of the program counter behind a breakpoint that was hit.
pub const PC_BEYOND_BREAKPOINT: u64 = 1;

pub const CAN_STEP: bool = true;

pub const HAS_EXCLUSIVES: bool = false;

/// Decodes the instructions that a tracer must know: none, since the CPU single-steps.
pub mod decode {
    pub const fn length(_: u32) -> u64 {
        1
    }

    pub const fn is_exclusive_load(_: u32) -> bool {
        false
    }

    pub const fn is_exclusive_store(_: u32) -> bool {
        false
    }

    pub const fn branch(_: u32) -> Option<i64> {
        None
    }

    pub fn next(_: u32, registers: &[u64]) -> [u64; 2] {
        [registers[super::PC]; 2]
    }
}

/// Offset of a system call's result in a handler's ucontext: rax, the 14th register; the registers come after 40 bytes.
const ANSWER: usize = 40 + 13 * 8;

/// Answers a system call trapped by a filter, from its SIGSYS handler.
///
/// # Safety
/// 1. `context` is the kernel's argument to the handler of that very signal.
pub unsafe fn answer_call(context: *mut u8, answer: isize) {
    // SAFETY: 1.: the register's aligned place in it.
    unsafe { context.wrapping_add(ANSWER).cast::<isize>().write(answer) };
}
