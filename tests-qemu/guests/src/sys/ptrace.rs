//! ptrace(2): the requests that the tests need.

use linux_raw_sys::general::{__NR_ptrace, iovec};
use linux_raw_sys::ptrace::{
    PTRACE_CONT, PTRACE_GET_RSEQ_CONFIGURATION, PTRACE_GET_SYSCALL_INFO, PTRACE_GETREGSET,
    PTRACE_PEEKDATA, PTRACE_POKEDATA, PTRACE_SETOPTIONS, PTRACE_SETREGSET, PTRACE_SINGLESTEP,
    PTRACE_SYSCALL, PTRACE_TRACEME, ptrace_rseq_configuration, ptrace_syscall_info,
};

use super::raw::syscall;
use crate::errno::Errno;

/// Touches no memory of this process, whatever `address` and `data` mean.
fn request(request: u32, tid: i32, address: u64, data: u64) -> Result<(), Errno> {
    // SAFETY: callers make only requests without a pointer into this process.
    unsafe { syscall!(__NR_ptrace, request, tid, address, data) }.map(drop)
}

/// The parent traces this process.
pub fn trace_me() -> Result<(), Errno> {
    request(PTRACE_TRACEME, 0, 0, 0)
}

pub fn set_options(tid: i32, options: u32) -> Result<(), Errno> {
    request(PTRACE_SETOPTIONS, tid, 0, options.into())
}

/// Lets a stopped tracee run up to its next call, with `signal` if not 0.
pub fn run_to_syscall(tid: i32, signal: i32) -> Result<(), Errno> {
    request(PTRACE_SYSCALL, tid, 0, signal as u64)
}

/// Lets a stopped tracee run one instruction, with `signal` if not 0. EIO where the CPU cannot.
pub fn run_one(tid: i32, signal: i32) -> Result<(), Errno> {
    request(PTRACE_SINGLESTEP, tid, 0, signal as u64)
}

/// Lets a stopped tracee run, with `signal` if not 0.
pub fn run_on(tid: i32, signal: i32) -> Result<(), Errno> {
    request(PTRACE_CONT, tid, 0, signal as u64)
}

/// The call that the stopped tracee is about to make, or has made.
pub fn syscall_info(tid: i32) -> Result<ptrace_syscall_info, Errno> {
    // SAFETY: all zeroes is a valid value.
    let mut info: ptrace_syscall_info = unsafe { core::mem::zeroed() };
    let size = size_of_val(&info);
    // SAFETY: writes the info, at most its size.
    unsafe {
        syscall!(
            __NR_ptrace,
            PTRACE_GET_SYSCALL_INFO,
            tid,
            size,
            &raw mut info
        )
    }?;
    Ok(info)
}

/// One word of the stopped tracee's memory.
pub fn peek(tid: i32, address: u64) -> Result<u64, Errno> {
    let mut word = 0u64;
    // SAFETY: writes the word.
    unsafe { syscall!(__NR_ptrace, PTRACE_PEEKDATA, tid, address, &raw mut word) }?;
    Ok(word)
}

/// Changes one word of the stopped tracee's memory, its code too.
pub fn poke(tid: i32, address: u64, word: u64) -> Result<(), Errno> {
    request(PTRACE_POKEDATA, tid, address, word)
}

/// The words of the largest set of general registers.
pub const REGISTERS: usize = 34;

const NT_PRSTATUS: usize = 1;

/// The general registers of the stopped tracee, in the kernel's order, and their size in bytes.
pub fn registers(tid: i32) -> Result<([u64; REGISTERS], usize), Errno> {
    let mut words = [0u64; REGISTERS];
    let mut to = iovec {
        iov_base: (&raw mut words).cast(),
        iov_len: size_of_val(&words) as _,
    };
    // SAFETY: writes the words, at most their size, and the length.
    unsafe { syscall!(__NR_ptrace, PTRACE_GETREGSET, tid, NT_PRSTATUS, &raw mut to) }?;
    Ok((words, to.iov_len as usize))
}

/// Changes the general registers of the stopped tracee: the first `length` bytes of them.
pub fn set_registers(tid: i32, words: &[u64; REGISTERS], length: usize) -> Result<(), Errno> {
    let mut from = iovec {
        iov_base: core::ptr::from_ref(words).cast_mut().cast(),
        iov_len: length as _,
    };
    // SAFETY: reads the words, at most their size, and writes the length.
    unsafe {
        syscall!(
            __NR_ptrace,
            PTRACE_SETREGSET,
            tid,
            NT_PRSTATUS,
            &raw mut from
        )
    }
    .map(drop)
}

pub fn program_counter(tid: i32) -> Result<u64, Errno> {
    let (words, _) = registers(tid)?;
    Ok(words[crate::arch::PC])
}

/// The registration of the stopped tracee in the kernel.
pub fn rseq_configuration(tid: i32) -> Result<ptrace_rseq_configuration, Errno> {
    // SAFETY: all zeroes is a valid value.
    let mut known: ptrace_rseq_configuration = unsafe { core::mem::zeroed() };
    let size = size_of_val(&known);
    // SAFETY: writes the configuration, at most its size.
    unsafe {
        syscall!(
            __NR_ptrace,
            PTRACE_GET_RSEQ_CONFIGURATION,
            tid,
            size,
            &raw mut known
        )
    }?;
    Ok(known)
}
