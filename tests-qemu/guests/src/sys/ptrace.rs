//! ptrace(2), the few requests that the tests need.

use linux_raw_sys::general::{__NR_ptrace, iovec};
use linux_raw_sys::ptrace::{
    PTRACE_CONT, PTRACE_GET_RSEQ_CONFIGURATION, PTRACE_GET_SYSCALL_INFO, PTRACE_GETREGSET,
    PTRACE_PEEKDATA, PTRACE_POKEDATA, PTRACE_SETOPTIONS, PTRACE_SETREGSET, PTRACE_SINGLESTEP,
    PTRACE_SYSCALL, PTRACE_TRACEME, ptrace_rseq_configuration, ptrace_syscall_info,
};

use super::raw::{call4, check, done};
use crate::errno::Errno;

/// The parent traces this process.
pub fn trace_me() -> Result<(), Errno> {
    // SAFETY: touches no memory.
    done(unsafe { call4(__NR_ptrace, PTRACE_TRACEME as usize, 0, 0, 0) })
}

/// PTRACE_SETOPTIONS of a stopped tracee.
pub fn set_options(tid: i32, options: u32) -> Result<(), Errno> {
    // SAFETY: touches no memory of this process.
    done(unsafe {
        call4(
            __NR_ptrace,
            PTRACE_SETOPTIONS as usize,
            tid as usize,
            0,
            options as usize,
        )
    })
}

/// Lets a stopped tracee run up to its next call, with `signal` if not 0.
pub fn run_to_syscall(tid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: touches no memory of this process.
    done(unsafe {
        call4(
            __NR_ptrace,
            PTRACE_SYSCALL as usize,
            tid as usize,
            0,
            signal as usize,
        )
    })
}

/// Lets a stopped tracee run one instruction, with `signal` if not 0. EIO where the CPU cannot.
pub fn run_one(tid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: touches no memory of this process.
    done(unsafe {
        call4(
            __NR_ptrace,
            PTRACE_SINGLESTEP as usize,
            tid as usize,
            0,
            signal as usize,
        )
    })
}

/// Lets a stopped tracee run, with `signal` if not 0.
pub fn run_on(tid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: touches no memory of this process.
    done(unsafe {
        call4(
            __NR_ptrace,
            PTRACE_CONT as usize,
            tid as usize,
            0,
            signal as usize,
        )
    })
}

/// What the stopped tracee is about to call, or has called.
pub fn syscall_info(tid: i32) -> Result<ptrace_syscall_info, Errno> {
    // SAFETY: all zeroes is a value of it.
    let mut info: ptrace_syscall_info = unsafe { core::mem::zeroed() };
    let to = (&raw mut info).expose_provenance();
    // SAFETY: writes the info, its size at most.
    check(unsafe {
        call4(
            __NR_ptrace,
            PTRACE_GET_SYSCALL_INFO as usize,
            tid as usize,
            size_of_val(&info),
            to,
        )
    })?;
    Ok(info)
}

/// One word of the stopped tracee's memory.
pub fn peek(tid: i32, address: u64) -> Result<u64, Errno> {
    let mut word = 0u64;
    let to = (&raw mut word).expose_provenance();
    // SAFETY: writes the word.
    done(unsafe {
        call4(
            __NR_ptrace,
            PTRACE_PEEKDATA as usize,
            tid as usize,
            address as usize,
            to,
        )
    })?;
    Ok(word)
}

/// Changes one word of the stopped tracee's memory, its code too.
pub fn poke(tid: i32, address: u64, word: u64) -> Result<(), Errno> {
    // SAFETY: touches no memory of this process.
    done(unsafe {
        call4(
            __NR_ptrace,
            PTRACE_POKEDATA as usize,
            tid as usize,
            address as usize,
            word as usize,
        )
    })
}

/// How many words the largest set of general registers has.
pub const REGISTERS: usize = 34;

const NT_PRSTATUS: usize = 1;

/// The general registers of the stopped tracee, in the kernel's order, and how many bytes they are.
pub fn registers(tid: i32) -> Result<([u64; REGISTERS], usize), Errno> {
    let mut words = [0u64; REGISTERS];
    let mut to = iovec {
        iov_base: (&raw mut words).cast(),
        iov_len: size_of_val(&words) as _,
    };
    // SAFETY: writes the words, their size at most, and the length.
    done(unsafe {
        call4(
            __NR_ptrace,
            PTRACE_GETREGSET as usize,
            tid as usize,
            NT_PRSTATUS,
            (&raw mut to).expose_provenance(),
        )
    })?;
    Ok((words, to.iov_len as usize))
}

/// Changes the general registers of the stopped tracee: the first `length` bytes of them.
pub fn set_registers(tid: i32, words: &[u64; REGISTERS], length: usize) -> Result<(), Errno> {
    let mut from = iovec {
        iov_base: core::ptr::from_ref(words).cast_mut().cast(),
        iov_len: length as _,
    };
    // SAFETY: reads the words, their size at most, and writes the length.
    done(unsafe {
        call4(
            __NR_ptrace,
            PTRACE_SETREGSET as usize,
            tid as usize,
            NT_PRSTATUS,
            (&raw mut from).expose_provenance(),
        )
    })
}

/// Where the stopped tracee goes on.
pub fn program_counter(tid: i32) -> Result<u64, Errno> {
    let (words, _) = registers(tid)?;
    Ok(words.get(crate::arch::PC).copied().unwrap_or(0))
}

/// The registration of the stopped tracee, as the kernel knows it.
pub fn rseq_configuration(tid: i32) -> Result<ptrace_rseq_configuration, Errno> {
    // SAFETY: all zeroes is a value of it.
    let mut known: ptrace_rseq_configuration = unsafe { core::mem::zeroed() };
    let to = (&raw mut known).expose_provenance();
    let size = size_of_val(&known);
    // SAFETY: writes the configuration, its size at most.
    check(unsafe {
        call4(
            __NR_ptrace,
            PTRACE_GET_RSEQ_CONFIGURATION as usize,
            tid as usize,
            size,
            to,
        )
    })?;
    Ok(known)
}
