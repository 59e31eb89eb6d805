//! seccomp(2)'s user notifications: calls of another process, answered by this one.

use linux_raw_sys::general::{
    __NR_ioctl, __NR_ppoll, __NR_process_vm_readv, __NR_process_vm_writev, __NR_seccomp, POLLIN,
    iovec, pollfd,
};
use linux_raw_sys::prctl::PR_SET_NO_NEW_PRIVS;
use linux_raw_sys::ptrace::{
    SECCOMP_FILTER_FLAG_NEW_LISTENER, SECCOMP_RET_ALLOW, SECCOMP_RET_USER_NOTIF,
    SECCOMP_SET_MODE_FILTER, SECCOMP_USER_NOTIF_FLAG_CONTINUE, seccomp_notif, seccomp_notif_resp,
    sock_filter, sock_fprog,
};

use crate::errno::Errno;
use crate::sys::process::prctl;
use crate::sys::raw::syscall;
use crate::sys::time::Span;

// linux/bpf_common.h, and _IOWR of linux/seccomp.h.
const LOAD_WORD: u16 = 0x20;
const IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const RECEIVE: u32 = 0xc050_2100;
const SEND: u32 = 0xc018_2101;

/// The number of calls handed to the listener.
pub const CALLS: usize = 3;

/// From here on these calls of the caller, and of its children, wait for the listener's answer. exec closes the
/// descriptor.
pub fn install(calls: [u32; CALLS]) -> Result<i32, Errno> {
    let step = |code, k, jt| sock_filter { code, jt, jf: 0, k };
    let [a, b, c] = calls;
    let program = [
        step(LOAD_WORD, 0, 0), // the call's number
        step(IF_EQUAL, a, 3),
        step(IF_EQUAL, b, 2),
        step(IF_EQUAL, c, 1),
        step(RETURN, SECCOMP_RET_ALLOW, 0),
        step(RETURN, SECCOMP_RET_USER_NOTIF, 0),
    ];
    let whole = sock_fprog {
        len: program.len() as u16,
        filter: (&raw const program).cast_mut().cast(),
    };
    let _ = (&raw const program).expose_provenance();
    // SAFETY: no pointer among the arguments; reads the program.
    unsafe {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)?;
        syscall!(
            __NR_seccomp,
            SECCOMP_SET_MODE_FILTER,
            SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const whole
        )
    }
    .map(|fd| fd as i32)
}

/// The next call, or `None` on a timeout.
pub fn next(fd: i32, limit: Span) -> Result<Option<seccomp_notif>, Errno> {
    let mut poll = pollfd {
        fd,
        events: POLLIN as i16,
        revents: 0,
    };
    let limit = limit.timespec();
    // SAFETY: reads the time, and reads and writes the one descriptor.
    unsafe { syscall!(__NR_ppoll, &raw mut poll, 1, &raw const limit, 0, 0) }?;
    if poll.revents & POLLIN as i16 == 0 {
        return Ok(None);
    }
    // SAFETY: all zeroes is a valid value, and required by the kernel.
    let mut call: seccomp_notif = unsafe { core::mem::zeroed() };
    // SAFETY: writes the call.
    match unsafe { syscall!(__NR_ioctl, fd, RECEIVE, &raw mut call) } {
        Ok(_) => Ok(Some(call)),
        // Killed meanwhile.
        Err(Errno::NOENT | Errno::INTR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

pub enum Reply {
    Answer(Result<(), Errno>),
    /// The kernel executes the call.
    GoOn,
}

pub fn reply(fd: i32, call: &seccomp_notif, reply: Reply) -> Result<(), Errno> {
    let (error, flags) = match reply {
        Reply::Answer(Ok(())) => (0, 0),
        Reply::Answer(Err(errno)) => (-(errno.0 as i32), 0),
        Reply::GoOn => (0, SECCOMP_USER_NOTIF_FLAG_CONTINUE),
    };
    let answer = seccomp_notif_resp {
        id: call.id,
        val: 0,
        error,
        flags,
    };
    // SAFETY: reads the answer.
    match unsafe { syscall!(__NR_ioctl, fd, SEND, &raw const answer) } {
        // Killed meanwhile.
        Err(Errno::NOENT) => Ok(()),
        other => other.map(drop),
    }
}

fn vector<T>(at: *const T) -> iovec {
    let _ = at.expose_provenance();
    iovec {
        iov_base: at.cast_mut().cast(),
        iov_len: size_of::<T>() as _,
    }
}

fn far<T>(at: u64) -> iovec {
    iovec {
        iov_base: core::ptr::without_provenance_mut(at as usize),
        iov_len: size_of::<T>() as _,
    }
}

/// Writes to another process's memory.
pub fn write<T: Copy>(pid: u32, at: u64, value: &T) -> Result<(), Errno> {
    let (here, there) = (vector(value), far::<T>(at));
    // SAFETY: reads the value; writes to the memory of another process.
    unsafe {
        syscall!(
            __NR_process_vm_writev,
            pid,
            &raw const here,
            1,
            &raw const there,
            1,
            0
        )
    }
    .map(drop)
}

/// Reads from another process's memory, over `value`.
pub fn read<T: Copy>(pid: u32, at: u64, value: &mut T) -> Result<(), Errno> {
    let (here, there) = (vector(value), far::<T>(at));
    // SAFETY: writes the value, whose type accepts any bytes at every caller.
    unsafe {
        syscall!(
            __NR_process_vm_readv,
            pid,
            &raw const here,
            1,
            &raw const there,
            1,
            0
        )
    }
    .map(drop)
}
