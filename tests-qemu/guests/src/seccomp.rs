//! seccomp filters: one call is answered in place of the kernel, all others pass. A filter is permanent, and a later
//! one wins if it is stricter.

use core::ptr;
use linux_raw_sys::general::__NR_seccomp;
use linux_raw_sys::prctl::PR_SET_NO_NEW_PRIVS;
use linux_raw_sys::ptrace::{
    SECCOMP_FILTER_FLAG_TSYNC, SECCOMP_SET_MODE_FILTER, sock_filter, sock_fprog,
};

use crate::errno::Errno;
use crate::sys::process::prctl;
use crate::sys::raw::syscall;

// linux/bpf_common.h and linux/seccomp.h, which linux-raw-sys leaves out.
const LOAD_WORD: u16 = 0x20;
const IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
// offsetof(struct seccomp_data, args)
const ARGS: u32 = 16;

/// The condition of a rule.
#[derive(Clone, Copy)]
pub enum When {
    Always,
    /// If the low 32 bits of argument `0..6` have this value.
    ArgIs(u32, u32),
    /// If they have any other value.
    ArgIsNot(u32, u32),
}

#[derive(Clone, Copy)]
pub enum Answer {
    /// This errno; `Errno(0)` pretends success and does nothing.
    Errno(Errno),
    Kill,
    KillThread,
    /// The thread gets SIGSYS, whose handler may answer; if that is blocked, the process is killed.
    Trap,
}

const fn step(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// From here on the call `nr` of this thread, and of its children, gets this answer.
pub fn install(nr: u32, when: When, then: Answer) -> Result<(), Errno> {
    install_with(0, nr, when, then)
}

/// As [`install`], for all threads of the process: a filter installed in the middle of its life.
pub fn install_everywhere(nr: u32, when: When, then: Answer) -> Result<(), Errno> {
    install_with(SECCOMP_FILTER_FLAG_TSYNC, nr, when, then)
}

fn install_with(flags: u32, nr: u32, when: When, then: Answer) -> Result<(), Errno> {
    // Jumps count from the next instruction. The low words come first, since all three CPUs are little-endian.
    let (arg, value, (equal, other)) = match when {
        When::Always => (0, 0, (0, 0)),
        When::ArgIs(arg, value) => (arg, value, (0, 1)),
        When::ArgIsNot(arg, value) => (arg, value, (1, 0)),
    };
    let action = match then {
        Answer::Errno(errno) => ERRNO | errno.0,
        Answer::Kill => KILL_PROCESS,
        Answer::KillThread => KILL_THREAD,
        Answer::Trap => TRAP,
    };
    let program = [
        step(LOAD_WORD, 0, 0, 0), // the call's number
        step(IF_EQUAL, nr, 0, 3),
        step(LOAD_WORD, ARGS + 8 * arg, 0, 0),
        step(IF_EQUAL, value, equal, other),
        step(RETURN, action, 0, 0),
        step(RETURN, ALLOW, 0, 0),
    ];
    let whole = sock_fprog {
        len: program.len() as u16,
        filter: ptr::from_ref(&program).cast_mut().cast(),
    };
    let _ = (&raw const program).expose_provenance();
    // A filter requires this or a capability.
    // SAFETY: no pointer among the arguments.
    unsafe { prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)? };
    // SAFETY: reads the program.
    match unsafe {
        syscall!(
            __NR_seccomp,
            SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const whole
        )
    }? {
        0 => Ok(()),
        // The id of a thread with other filters.
        _ => Err(Errno::BUSY),
    }
}
