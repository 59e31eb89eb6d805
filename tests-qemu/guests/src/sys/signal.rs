//! Signals in the kernel's terms: a mask is one u64 for all 64 signals.

use linux_raw_sys::general::{
    __NR_kill, __NR_rt_sigaction, __NR_rt_sigprocmask, __NR_rt_sigtimedwait, __NR_tgkill,
    SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK, kernel_sigaction,
};

use super::process::getpid;
use super::raw::syscall;
use super::time::Span;
use crate::errno::Errno;

const SET: usize = size_of::<u64>();

/// The set with this one signal.
pub const fn bit(signal: i32) -> u64 {
    1 << ((signal - 1) & 63)
}

#[derive(Clone, Copy)]
pub enum Mask {
    Block(u64),
    Unblock(u64),
    Exactly(u64),
}

/// rt_sigprocmask(2). Returns the previous mask.
pub fn mask(change: Mask) -> Result<u64, Errno> {
    let (how, set) = match change {
        Mask::Block(set) => (SIG_BLOCK, set),
        Mask::Unblock(set) => (SIG_UNBLOCK, set),
        Mask::Exactly(set) => (SIG_SETMASK, set),
    };
    let mut old = 0u64;
    // SAFETY: reads one set, writes the other.
    unsafe { syscall!(__NR_rt_sigprocmask, how, &raw const set, &raw mut old, SET) }?;
    Ok(old)
}

/// The mask of the calling thread.
pub fn blocked() -> Result<u64, Errno> {
    let mut old = 0u64;
    // SAFETY: changes nothing, writes `old`.
    unsafe { syscall!(__NR_rt_sigprocmask, 0, 0, &raw mut old, SET) }?;
    Ok(old)
}

/// # Safety
/// 1. The handler may run at any point of any thread.
pub unsafe fn action(signal: i32, action: &kernel_sigaction) -> Result<(), Errno> {
    let action = core::ptr::from_ref(action);
    // SAFETY: 1.; reads the action.
    unsafe { syscall!(__NR_rt_sigaction, signal, action, 0, SET) }.map(drop)
}

/// rt_sigtimedwait(2): takes one signal of `set`, which must be blocked; EAGAIN
/// after `limit`.
pub fn take(set: u64, limit: Span) -> Result<i32, Errno> {
    let limit = limit.timespec();
    // SAFETY: reads the set and the time.
    unsafe {
        syscall!(
            __NR_rt_sigtimedwait,
            &raw const set,
            0,
            &raw const limit,
            SET
        )
    }
    .map(|signal| signal as i32)
}

/// kill(2): a negative `pid` is a process group.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: touches no memory of this process.
    unsafe { syscall!(__NR_kill, pid, signal) }.map(drop)
}

/// tgkill(2) in this process.
pub fn kill_thread(tid: u32, signal: i32) -> Result<(), Errno> {
    // SAFETY: `action` determines the effect of a signal in this process.
    unsafe { syscall!(__NR_tgkill, getpid(), tid, signal) }.map(drop)
}

/// The name of a signal that may end a test.
pub const fn name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        17 => "SIGCHLD",
        19 => "SIGSTOP",
        31 => "SIGSYS",
        _ => return None,
    })
}
