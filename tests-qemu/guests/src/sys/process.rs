//! Processes.

use core::ffi::CStr;
use core::{fmt, ptr};
use linux_raw_sys::general::{
    __NR_clone, __NR_execve, __NR_exit, __NR_exit_group, __NR_getpid, __NR_getppid, __NR_gettid,
    __NR_prctl, __NR_prlimit64, __NR_reboot, __NR_setpgid, __NR_sync, __NR_uname, __NR_wait4,
    __WALL, LINUX_REBOOT_CMD_POWER_OFF, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, RLIMIT_CORE,
    RLIMIT_CPU, SIGCHLD, WNOHANG, rlimit64,
};
use linux_raw_sys::prctl::PR_SET_DUMPABLE;
use linux_raw_sys::system::new_utsname;

use super::raw::{call0, call1, syscall};
use super::time::Span;
use crate::errno::Errno;

pub fn getpid() -> i32 {
    // SAFETY: touches no memory.
    (unsafe { call0(__NR_getpid) }) as i32
}

pub fn getppid() -> i32 {
    // SAFETY: touches no memory.
    (unsafe { call0(__NR_getppid) }) as i32
}

pub fn gettid() -> u32 {
    // SAFETY: touches no memory.
    (unsafe { call0(__NR_gettid) }) as u32
}

pub fn exit_group(code: i32) -> ! {
    loop {
        // SAFETY: ends the process.
        unsafe { call1(__NR_exit_group, code as usize) };
    }
}

/// exit(2) of this thread only. Its memory stays mapped, and in use by the kernel until clear-tid.
pub fn exit_thread(code: i32) -> ! {
    loop {
        // SAFETY: ends the thread.
        unsafe { call1(__NR_exit, code as usize) };
    }
}

/// clone(SIGCHLD): 0 in the child, the child's pid in the parent.
///
/// # Safety
/// 1. The child, which has only this thread, needs no other one.
pub unsafe fn fork() -> Result<i32, Errno> {
    // SAFETY: 1.; neither stack nor TLS: a copy of everything.
    unsafe { syscall!(__NR_clone, SIGCHLD, 0, 0, 0, 0) }.map(|pid| pid as i32)
}

/// execve(2): returns only an error.
///
/// # Safety
/// 1. `argv` and `envp` are strings up to a null pointer.
pub unsafe fn execve(path: &CStr, argv: *const *const u8, envp: *const *const u8) -> Errno {
    // SAFETY: 1.
    let answer = unsafe { syscall!(__NR_execve, path.as_ptr(), argv, envp) };
    answer.err().unwrap_or(Errno::INVAL)
}

/// The result of wait4(2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Exited(i32),
    Killed(i32),
    /// The low byte is the signal, with the ptrace event above it.
    Stopped(i32),
}

impl Status {
    const fn new(status: i32) -> Self {
        match status & 0x7f {
            0 => Self::Exited(status >> 8 & 0xff),
            0x7f => Self::Stopped(status >> 8),
            signal => Self::Killed(signal),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (how, number) = match *self {
            Self::Exited(code) => return write!(to, "exited with {code}"),
            Self::Killed(signal) => ("killed by", signal),
            Self::Stopped(signal) => ("stopped by", signal),
        };
        match super::signal::name(number) {
            Some(name) => write!(to, "{how} {name}"),
            None => write!(to, "{how} signal {number}"),
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, to)
    }
}

/// wait4(2) for `pid` (-1: any child), including threads of tracees.
pub fn wait(pid: i32) -> Result<(i32, Status), Errno> {
    wait_with(pid, 0).and_then(|answer| answer.ok_or(Errno::CHILD))
}

/// The same without waiting; `None`: there are children, but no change of state.
pub fn wait_now(pid: i32) -> Result<Option<(i32, Status)>, Errno> {
    wait_with(pid, WNOHANG)
}

fn wait_with(pid: i32, options: u32) -> Result<Option<(i32, Status)>, Errno> {
    let mut status = 0i32;
    // SAFETY: writes the status.
    match unsafe { syscall!(__NR_wait4, pid, &raw mut status, options | __WALL, 0) }? {
        0 => Ok(None),
        pid => Ok(Some((pid as i32, Status::new(status)))),
    }
}

pub fn setpgid(pid: i32, group: i32) -> Result<(), Errno> {
    // SAFETY: touches no memory.
    unsafe { syscall!(__NR_setpgid, pid, group) }.map(drop)
}

/// # Safety
/// 1. The option's effect on memory and on the process is sound with these arguments.
pub unsafe fn prctl(option: u32, a: usize, b: usize, c: usize, d: usize) -> Result<usize, Errno> {
    // SAFETY: 1.
    unsafe { syscall!(__NR_prctl, option, a, b, c, d) }
}

/// For a process that should die: no core file, no core helper.
pub fn no_core_dump() {
    let none = rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // Either may be refused (qemu-user): then a dump only costs time.
    // SAFETY: reads the limit; no pointer among the arguments of prctl(2).
    unsafe {
        let _ = syscall!(__NR_prlimit64, 0, RLIMIT_CORE, &raw const none, 0);
        let _ = prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    }
}

/// Ends this process, and every child that it forks, by SIGKILL after that many seconds of processor time.
pub fn limit_time(seconds: u64) {
    let limit = rlimit64 {
        rlim_cur: seconds,
        rlim_max: seconds,
    };
    // SAFETY: reads the limit.
    let _ = unsafe { syscall!(__NR_prlimit64, 0, RLIMIT_CPU, &raw const limit, 0) };
}

pub fn uname() -> Result<new_utsname, Errno> {
    // SAFETY: all zeroes is a valid value.
    let mut name: new_utsname = unsafe { core::mem::zeroed() };
    // SAFETY: writes the name.
    unsafe { syscall!(__NR_uname, &raw mut name) }?;
    Ok(name)
}

/// The string in one field of [`uname`].
pub fn field(bytes: &[core::ffi::c_char; 65]) -> &[u8] {
    // SAFETY: c_char is i8 or u8, with the same layout.
    let bytes: &[u8; 65] = unsafe { &*ptr::from_ref(bytes).cast() };
    bytes.split(|&byte| byte == 0).next().unwrap_or(&[])
}

/// Powers the machine off once all output has left the console.
pub fn power_off() -> ! {
    const MAGIC: (u32, u32) = (LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2);
    // SAFETY: touches no memory.
    unsafe { call0(__NR_sync) };
    let _ = super::io::drain(1);
    // The last bytes are still in the UART's FIFO.
    let _ = super::time::sleep(Span::millis(50));
    loop {
        // SAFETY: nothing else runs on the machine.
        let _ = unsafe { syscall!(__NR_reboot, MAGIC.0, MAGIC.1, LINUX_REBOOT_CMD_POWER_OFF, 0) };
        let _ = super::time::sleep(Span::secs(1));
    }
}
