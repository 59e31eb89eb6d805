//! A traced child that runs by single instructions between its own stops: by the CPU's single step; where it has none
//! (riscv64), by a breakpoint at each possible next instruction.

use linux_raw_sys::general::{SIGSTOP, SIGTRAP};

use crate::arch::{self, decode};
use crate::breakpoint::{Breakpoints, PLACES};
use crate::errno::Errno;
use crate::exclusive::{self, Sequence};
use crate::harness::child::wait;
use crate::sys::process::{self, Status};
use crate::sys::sched::{self, CpuSet};
use crate::sys::{ptrace, signal};

/// Offset of rseq_cs in the area.
const RSEQ_CS: u64 = 8;

/// Stops the child until its tracer continues it.
pub fn stop() {
    let _ = signal::kill(process::getpid(), SIGSTOP as i32);
}

pub struct Stepper {
    pub pid: i32,
    /// The status of its last stop, or of its end.
    pub status: Status,
    /// The number of steps made.
    pub steps: u64,
}

impl Stepper {
    /// Forks a child that runs `body`, which requests tracing and then stops, and never returns.
    ///
    /// # Safety
    /// 1. The process has no other thread.
    pub unsafe fn start<R>(body: impl FnOnce() -> R) -> Result<Self, Errno> {
        // SAFETY: fork (1) is (1).
        let pid = unsafe { process::fork()? };
        if pid == 0 {
            body();
            process::exit_group(1);
        }
        let (status, steps) = (wait(pid)?, 0);
        Ok(Self { pid, status, steps })
    }

    /// Moves it and the calling tracer to this CPU. They run alternately, and on different CPUs each would wait for the
    /// other to wake up: a long time where CPUs are an emulator's threads, on a busy machine.
    pub fn move_with_tracer(&self, cpu: u32) -> Result<(), Errno> {
        let cpu = CpuSet::one(cpu);
        sched::allow(self.pid as u32, &cpu)?;
        sched::allow(0, &cpu)
    }

    /// Whether it is at one of its own stops.
    pub fn stands(&self) -> bool {
        self.status == Status::Stopped(SIGSTOP as i32)
    }

    /// Whether it is stopped by a step or a breakpoint.
    pub fn is_trapped(&self) -> bool {
        self.status == Status::Stopped(SIGTRAP as i32)
    }

    /// Runs `depth` single instructions, or up to its next own stop. Returns whether it is still before that.
    pub fn step(&mut self, depth: u32) -> Result<bool, Errno> {
        for _ in 0..depth {
            self.one()?;
            if !self.is_trapped() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// As [`Self::step`], but passes through critical sections, which each stop would abort: the descriptor is hidden
    /// from the kernel until the last step. The child has an area.
    pub fn step_through(&mut self, depth: u32) -> Result<bool, Errno> {
        let rseq_cs = ptrace::rseq_configuration(self.pid)?.rseq_abi_pointer + RSEQ_CS;
        let mut hidden = 0;
        for _ in 0..depth {
            let announced = ptrace::peek(self.pid, rseq_cs)?;
            if announced != 0 {
                hidden = announced;
                ptrace::poke(self.pid, rseq_cs, 0)?;
            }
            if !self.step(1)? {
                return Ok(false);
            }
        }
        if ptrace::peek(self.pid, rseq_cs)? == 0 {
            ptrace::poke(self.pid, rseq_cs, hidden)?;
        }
        Ok(true)
    }

    /// One instruction, or one exclusive sequence.
    pub fn one(&mut self) -> Result<(), Errno> {
        self.steps += 1;
        if let Some(Sequence { to, out, .. }) = self.exclusive()? {
            return self.run_to([to, out, out]).map(drop);
        }
        if arch::CAN_STEP {
            ptrace::run_one(self.pid, 0)?;
            self.status = wait(self.pid)?;
            return Ok(());
        }
        let next = self.next()?;
        self.run_to(next).map(drop)
    }

    /// The exclusive sequence that it is about to execute.
    pub fn exclusive(&self) -> Result<Option<Sequence>, Errno> {
        if arch::HAS_EXCLUSIVES {
            exclusive::sequence(self.pid, ptrace::program_counter(self.pid)?)
        } else {
            Ok(None)
        }
    }

    /// Runs to one of these places, or to an earlier stop. Returns whether it got there.
    pub fn run_to(&mut self, places: [u64; PLACES]) -> Result<bool, Errno> {
        let breakpoints = Breakpoints::set(self.pid, places)?;
        ptrace::run_on(self.pid, 0)?;
        self.status = wait(self.pid)?;
        let Status::Stopped(_) = self.status else {
            return Ok(false);
        };
        let is_there = self.is_trapped() && breakpoints.hit()?;
        breakpoints.clear()?;
        Ok(is_there)
    }

    /// The possible next instructions: in a critical section also its abort handler.
    fn next(&self) -> Result<[u64; PLACES], Errno> {
        let (registers, _) = ptrace::registers(self.pid)?;
        let pc = registers[arch::PC];
        let [next, far] = decode::next(exclusive::code(self.pid, pc)?, &registers);
        let abort = self.abort_of(pc).unwrap_or(next);
        Ok([next, far, abort])
    }

    /// The abort handler, if `pc` is in the critical section that the thread has announced.
    fn abort_of(&self, pc: u64) -> Option<u64> {
        let area = ptrace::rseq_configuration(self.pid).ok()?.rseq_abi_pointer;
        let peek = |at: u64| ptrace::peek(self.pid, at).ok();
        let section = peek(area.checked_add(RSEQ_CS)?).filter(|&section| section != 0)?;
        let (start, length) = (peek(section + 8)?, peek(section + 16)?);
        let abort = peek(section + 24)?;
        (pc.wrapping_sub(start) < length).then_some(abort)
    }

    /// Whether it is in the critical section that it has announced, or at most `more` bytes behind its end.
    pub fn is_inside(&self, more: u64) -> Result<bool, Errno> {
        let rseq_cs = ptrace::rseq_configuration(self.pid)?.rseq_abi_pointer + RSEQ_CS;
        let section = ptrace::peek(self.pid, rseq_cs)?;
        if section == 0 {
            return Ok(false);
        }
        let start = ptrace::peek(self.pid, section + 8)?;
        let length = ptrace::peek(self.pid, section + 16)?;
        let pc = ptrace::program_counter(self.pid)?;
        Ok(pc.wrapping_sub(start) < length.wrapping_add(more))
    }

    /// Runs to its next own stop, or its end.
    pub fn run(&mut self) -> Result<(), Errno> {
        self.run_with(0)
    }

    /// As [`Self::run`], with a signal if not 0.
    pub fn run_with(&mut self, signal: i32) -> Result<(), Errno> {
        ptrace::run_on(self.pid, signal)?;
        self.status = wait(self.pid)?;
        Ok(())
    }
}
