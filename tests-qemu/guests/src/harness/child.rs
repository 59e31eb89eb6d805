//! Children of a test.

use super::report::{Failed, failed};
use crate::errno::Errno;
use crate::sys::process::{self, Status};
use crate::sys::signal;
use crate::text;

/// Runs `body` in a forked child, which exits with 0 after it; how it ended.
/// What the child checks counts for the test.
pub fn forked(body: impl FnOnce()) -> Result<Status, Errno> {
    // SAFETY: the child needs no other thread: `body` brings what it needs.
    let pid = unsafe { process::fork()? };
    if pid == 0 {
        body();
        process::exit_group(0);
    }
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
pub fn expect_killed_by(signal: i32, body: impl FnOnce()) -> Result<(), Failed> {
    let status = forked(|| {
        process::no_core_dump();
        body();
    });
    if status == Ok(Status::Killed(signal)) {
        return Ok(());
    }
    let name = signal::name(signal).unwrap_or("a signal");
    Err(failed(text!(
        "the broken variant was to be killed by ",
        name,
        " and ",
        status
    )))
}
