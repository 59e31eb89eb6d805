//! Systems simulated for the program under them, which `rseq-conform` must detect: an emulator that answers 0 and does
//! nothing, one that writes the ids and never aborts; and the same system with one CPU, or without root.

mod emulator;
mod notifier;

use core::ffi::CStr;
use core::ptr;

use linux_raw_sys::general::__NR_rseq;

use crate::entry::Env;
use crate::errno::Errno;
use crate::println;
use crate::seccomp::{self, Answer, When};
use crate::sys::sched::{self, CpuSet};
use crate::sys::{process, task};

/// This system cannot be simulated here.
const SKIPPED: i32 = 77;
const NOBODY: u32 = 65534;

/// `played KIND PROGRAM [ARGUMENT]`. Returns the program's exit code.
pub fn main(env: &Env) -> i32 {
    let done = match env.args().nth(1) {
        Some(b"pretends") => pretends().map(|()| exec(env)),
        Some(b"never-aborts") => emulator::run(env),
        Some(b"one-cpu") => one_cpu().map(|()| exec(env)),
        Some(b"nobody") => nobody().map(|()| exec(env)),
        _ => {
            println!("played: pretends, never-aborts, one-cpu or nobody, and a program");
            return 2;
        }
    };
    done.unwrap_or_else(|errno| {
        println!("it cannot be played here: {errno}");
        SKIPPED
    })
}

fn pretends() -> Result<(), Errno> {
    seccomp::install(__NR_rseq, When::Always, Answer::Errno(Errno(0)))
}

fn one_cpu() -> Result<(), Errno> {
    let all = sched::allowed()?;
    let cpu = all.iter().next().ok_or(Errno::INVAL)?;
    sched::allow(0, &CpuSet::one(cpu))
}

fn nobody() -> Result<(), Errno> {
    match task::become_user(NOBODY) {
        // A user who may not is unprivileged already.
        Err(Errno::PERM) => Ok(()),
        other => other,
    }
}

/// Executes the program in this process.
fn exec(env: &Env) -> i32 {
    if env.args().count() < 3 {
        println!("played: no program");
        return 2;
    }
    // SAFETY: the third argument, and those after it up to the null pointer.
    let errno = unsafe {
        let argv = env.argv().add(2);
        let path = CStr::from_ptr(ptr::read(argv).cast());
        process::execve(path, argv, env.envp())
    };
    println!("played: the program cannot be executed: {errno}");
    SKIPPED
}
