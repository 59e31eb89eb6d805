//! Child processes of a test.

use crate::errno::Errno;
use crate::stack::Stack;
use crate::sys::process::{self, Status};
use crate::thread::spawn_vfork;

/// Runs `body` in a forked child, which then exits with 0. Returns how it ended.
pub fn forked(body: impl FnOnce()) -> Result<Status, Errno> {
    // SAFETY: the child needs no other thread: `body` brings everything it uses.
    let pid = unsafe { process::fork()? };
    if pid == 0 {
        body();
        process::exit_group(0);
    }
    wait(pid)
}

/// The same in a child that shares the memory while the calling thread is suspended, as by vfork(2).
pub fn vforked<F: FnOnce()>(stack: Stack, body: F) -> Result<Status, Errno> {
    unsafe extern "C" fn run<F: FnOnce()>(argument: *mut u8) -> ! {
        // SAFETY: the `body` below, whose owner is suspended.
        if let Some(body) = unsafe { &mut *argument.cast::<Option<F>>() }.take() {
            body();
        }
        process::exit_group(0)
    }
    let mut body = Some(body);
    // SAFETY: (1) the caller's stack, used by one child at a time; (2) `run` ends in an exit.
    let pid = unsafe { spawn_vfork(stack.top(), run::<F>, (&raw mut body).cast())? };
    wait(pid)
}

pub fn wait(pid: i32) -> Result<Status, Errno> {
    loop {
        match process::wait(pid) {
            Ok((_, status)) => return Ok(status),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Runs the broken variant: passes only if the kernel kills it by `signal`.
#[track_caller]
pub fn must_die(signal: i32, body: impl FnOnce()) {
    let status = forked(|| {
        process::no_core_dump();
        body();
    });
    let expected = Ok(Status::Killed(signal));
    assert_eq!(status, expected, "the broken variant");
}

/// The child must reach the end of `body`: a panic exits with another code.
#[track_caller]
pub fn must_pass(body: impl FnOnce()) {
    let status = forked(|| {
        body();
        process::exit_group(CAME_TO_ITS_END);
    });
    assert_eq!(status, Ok(Status::Exited(CAME_TO_ITS_END)), "the child");
}

const CAME_TO_ITS_END: i32 = 7;
