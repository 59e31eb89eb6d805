//! A traced child that goes on by single instructions, from one stop of its own to the next.

use linux_raw_sys::general::{SIGKILL, SIGSTOP, SIGTRAP};

use crate::errno::Errno;
use crate::exclusive::{self, Breakpoints};
use crate::harness::Failed;
use crate::harness::child::wait;
use crate::sys::process::{self, Status};
use crate::sys::{ptrace, signal};

/// The child stands still until its tracer goes on.
pub fn stop() {
    let _ = signal::kill(process::getpid(), SIGSTOP as i32);
}

/// The child, as its tracer sees it.
pub struct Stepper {
    /// Its id.
    pub pid: i32,
    /// How it stopped, or ended.
    pub status: Status,
    /// Steps that it made.
    pub steps: u64,
}

/// The CPU cannot step.
pub struct NoSteps;

const NO_STEPS: Errno = Errno(linux_raw_sys::errno::EIO);

impl Stepper {
    /// Forks a child that runs `body`, which asks to be traced and then stops.
    ///
    /// # Safety
    /// 1. The process has no other thread.
    pub unsafe fn start(body: fn() -> !) -> Result<Self, Failed> {
        // SAFETY: fork (1) is (1).
        let pid = unsafe { process::fork()? };
        if pid == 0 {
            body();
        }
        let status = wait(pid)?;
        Ok(Self {
            pid,
            status,
            steps: 0,
        })
    }

    /// Stands at a stop of its own.
    pub fn stands(&self) -> bool {
        self.status == Status::Stopped(SIGSTOP as i32)
    }

    /// One instruction after the other, until the next stop of its own, or `depth` of them. Whether it still goes on.
    pub fn step(&mut self, depth: u32) -> Result<Result<bool, NoSteps>, Failed> {
        for _ in 0..depth {
            match self.one() {
                Err(NO_STEPS) => {
                    let _ = signal::kill(self.pid, SIGKILL as i32);
                    let _ = wait(self.pid);
                    return Ok(Err(NoSteps));
                }
                other => other?,
            }
            self.steps += 1;
            if self.status != Status::Stopped(SIGTRAP as i32) {
                return Ok(Ok(false));
            }
        }
        Ok(Ok(true))
    }

    /// One instruction, or one exclusive sequence.
    fn one(&mut self) -> Result<(), Errno> {
        let ends = if cfg!(target_arch = "aarch64") {
            exclusive::ends(self.pid)?
        } else {
            None
        };
        match ends {
            None => {
                ptrace::run_one(self.pid, 0)?;
                self.status = wait(self.pid)?;
            }
            Some(ends) => {
                let breakpoints = Breakpoints::set(self.pid, ends)?;
                ptrace::run_on(self.pid, 0)?;
                self.status = wait(self.pid)?;
                breakpoints.clear()?;
            }
        }
        Ok(())
    }

    /// Up to the next stop of its own, or its end.
    pub fn run(&mut self) -> Result<(), Failed> {
        ptrace::run_on(self.pid, 0)?;
        self.status = wait(self.pid)?;
        Ok(())
    }
}
