//! Signals, in the kernel's own terms: masks are one u64, all 64 signals count.

use linux_raw_sys::general::{
    __NR_kill, __NR_rt_sigaction, __NR_rt_sigpending, __NR_rt_sigprocmask, __NR_rt_sigtimedwait,
    __NR_sigaltstack, __NR_tgkill, SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK, kernel_sigaction, stack_t,
};

use super::process::getpid;
use super::raw::{call2, call3, call4, check, done};
use super::time::Span;
use crate::errno::Errno;

const SET: usize = size_of::<u64>();

/// The set with this one signal.
pub const fn bit(signal: i32) -> u64 {
    1 << ((signal - 1) & 63)
}

/// How a mask changes.
#[derive(Clone, Copy)]
pub enum Mask {
    /// These are blocked too.
    Block(u64),
    /// These are not blocked any more.
    Unblock(u64),
    /// Exactly these are blocked.
    Exactly(u64),
}

/// rt_sigprocmask(2); the mask before.
pub fn mask(change: Mask) -> Result<u64, Errno> {
    let (how, set) = match change {
        Mask::Block(set) => (SIG_BLOCK, set),
        Mask::Unblock(set) => (SIG_UNBLOCK, set),
        Mask::Exactly(set) => (SIG_SETMASK, set),
    };
    let mut old = 0u64;
    let (from, to) = (
        (&raw const set).expose_provenance(),
        (&raw mut old).expose_provenance(),
    );
    // SAFETY: reads one set, writes the other.
    done(unsafe { call4(__NR_rt_sigprocmask, how as usize, from, to, SET) })?;
    Ok(old)
}

/// The mask as it is.
pub fn blocked() -> Result<u64, Errno> {
    let mut old = 0u64;
    // SAFETY: changes nothing, writes `old`.
    done(unsafe {
        call4(
            __NR_rt_sigprocmask,
            0,
            0,
            (&raw mut old).expose_provenance(),
            SET,
        )
    })?;
    Ok(old)
}

/// rt_sigpending(2).
pub fn pending() -> Result<u64, Errno> {
    let mut set = 0u64;
    // SAFETY: writes `set`.
    done(unsafe { call2(__NR_rt_sigpending, (&raw mut set).expose_provenance(), SET) })?;
    Ok(set)
}

/// rt_sigaction(2).
///
/// # Safety
/// 1. The handler bears being run at any point of any thread.
pub unsafe fn action(signal: i32, action: &kernel_sigaction) -> Result<(), Errno> {
    let from = core::ptr::from_ref(action).expose_provenance();
    // SAFETY: 1.; reads the action.
    done(unsafe { call4(__NR_rt_sigaction, signal as usize, from, 0, SET) })
}

/// sigaltstack(2).
///
/// # Safety
/// 1. The memory serves as nothing else while handlers may run on it.
pub unsafe fn alternate_stack(stack: &stack_t) -> Result<(), Errno> {
    // SAFETY: 1.; reads the description.
    done(unsafe {
        call2(
            __NR_sigaltstack,
            core::ptr::from_ref(stack).expose_provenance(),
            0,
        )
    })
}

/// rt_sigtimedwait(2): takes one signal of `set`, which must be blocked; EAGAIN
/// after `limit`.
pub fn take(set: u64, limit: Span) -> Result<i32, Errno> {
    let limit = limit.timespec();
    let (from, limit) = (
        (&raw const set).expose_provenance(),
        (&raw const limit).expose_provenance(),
    );
    // SAFETY: reads the set and the time.
    check(unsafe { call4(__NR_rt_sigtimedwait, from, 0, limit, SET) }).map(|signal| signal as i32)
}

/// kill(2): a negative `pid` is a process group.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: touches no memory of this process.
    done(unsafe { call2(__NR_kill, pid as usize, signal as usize) })
}

/// tgkill(2) in this process.
pub fn kill_thread(tid: u32, signal: i32) -> Result<(), Errno> {
    // SAFETY: what a signal of this process does is said by `action`.
    done(unsafe {
        call3(
            __NR_tgkill,
            getpid() as usize,
            tid as usize,
            signal as usize,
        )
    })
}

/// The name of a signal, of those that end a test.
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
