//! The tracer: records which instructions a hook runs through, and stops the child at any of them.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use linux_raw_sys::general::{SIGSTOP, SIGSYS, SIGUSR1};

use super::acts::{self, SCENE, Scene};
use super::case::{Case, Seam};
use super::fault::Fault;
use super::seam::NoMask;
use super::shared::{self, Phase, Shared, shared};
use super::subject::Subject;
use crate::entry::Env;
use crate::harness::{Ctx, Failed};
use crate::stepper::{Stepper, stop};
use crate::sys::process::{self, Status, exit_group};
use crate::sys::ptrace;
use crate::sys::sched::{self, CpuSet};
use crate::{check, hooked, signals};
use rseq_rt::Linux;

/// More instructions than any hook has.
const MOST: usize = 4096;

/// One of them: where, and whether a step goes over it because it is inside of an exclusive sequence.
static TRACE: [AtomicU64; MOST] = [const { AtomicU64::new(0) }; MOST];
const INSIDE: u64 = 1 << 63;

fn traced(nth: usize) -> u64 {
    TRACE.get(nth).map_or(0, |at| at.load(Relaxed))
}

/// The child and its recorded instructions.
pub struct Walker {
    stepper: Stepper,
    shared: &'static Shared,
    length: usize,
    cpus: CpuSet,
}

/// How a case ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// This was wrong, or nothing.
    Judged(Fault),
    /// The child never came to that instruction.
    Missed,
    /// The child ended so.
    Died(Status),
}

fn child(env: &'static Env) -> Option<()> {
    process::no_core_dump();
    let shared = shared()?;
    let subject = Subject::new(hooked::config(env)).ok()?;
    let mut scene = Scene { subject, env };
    SCENE.store(&raw mut scene, Relaxed);
    ptrace::trace_me().ok()?;
    loop {
        shared.phase.store(Phase::Idle as u32, Relaxed);
        stop();
        let word = shared.case.load(Relaxed);
        let Some(case) = Case::decode(word) else {
            exit_group(0);
        };
        shared.fault.store(Fault::None as u32, Relaxed);
        acts::CASE.store(word, Relaxed);
        let signal = signal(case);
        let handler = match case.seam {
            Seam::Linux => acts::handler::<Linux>,
            Seam::NoMask => acts::handler::<NoMask>,
        };
        // SAFETY: handle (1) it bears being run at any instruction of a hook: that is what is tested.
        unsafe { signals::handle(signal, handler, 0) }.ok()?;
        let fault = match case.seam {
            Seam::Linux => scene.subject.run::<Linux>(case),
            Seam::NoMask => scene.subject.run::<NoMask>(case),
        };
        acts::CASE.store(u32::MAX, Relaxed);
        if shared.fault.load(Relaxed) == Fault::None as u32 {
            shared.fault.store(fault as u32, Relaxed);
        }
    }
}

fn signal(case: Case) -> i32 {
    match case.is_sigsys {
        true => SIGSYS as i32,
        false => SIGUSR1 as i32,
    }
}

impl Walker {
    /// Starts a child.
    pub fn start(ctx: &Ctx<'_>) -> Result<Self, Failed> {
        let shared = shared::share()?;
        // SAFETY: the child is a copy, and never returns; so its copy of the environment stays.
        let env: &'static Env = unsafe { &*core::ptr::from_ref(ctx.env) };
        // SAFETY: start (1) a test is a process of its own.
        let stepper = unsafe { Stepper::start(|| _ = child(env)) }?;
        check!(stepper.stands(), "the child ", stepper.status);
        Ok(Self {
            stepper,
            shared,
            length: 0,
            cpus: sched::allowed()?,
        })
    }

    /// How many handlers have run.
    pub fn acts(&self) -> u32 {
        self.shared.acts.load(Relaxed)
    }

    /// Lets the child end.
    pub fn end(mut self) -> Result<(), Failed> {
        self.shared.case.store(Case::encode(None), Relaxed);
        self.stepper.run()?;
        check!(
            self.stepper.status == Status::Exited(0),
            "the child ",
            self.stepper.status
        );
        Ok(())
    }

    fn phase(&self) -> Option<Phase> {
        let phase = self.shared.phase.load(Relaxed);
        [Phase::Idle, Phase::Front, Phase::Behind]
            .into_iter()
            .find(|&it| self.stepper.stands() && it as u32 == phase)
    }

    /// To the child's next stop of its own; the signals that come by are its own.
    fn run_on(&mut self, signal: i32) -> Result<(), Failed> {
        let mut signal = signal;
        loop {
            self.stepper.run_with(signal)?;
            match self.stepper.status {
                Status::Stopped(stop) if stop != SIGSTOP as i32 => signal = stop,
                _ => return Ok(()),
            }
        }
    }

    /// In front of the hook. Not where there is none.
    fn begin(&mut self, case: Case, cpu: Option<u32>) -> Result<bool, Failed> {
        self.shared.case.store(Case::encode(Some(case)), Relaxed);
        if let Some(cpu) = cpu {
            sched::allow(self.stepper.pid as u32, &CpuSet::one(cpu))?;
        }
        self.run_on(0)?;
        Ok(self.phase() == Some(Phase::Front))
    }

    fn finish(&mut self, signal: i32) -> Result<End, Failed> {
        self.run_on(signal)?;
        if self.phase() == Some(Phase::Behind) {
            self.run_on(0)?;
        }
        Ok(match self.phase() {
            Some(Phase::Idle) => {
                let fault = self.shared.fault.load(Relaxed);
                End::Judged(Fault::of(fault).unwrap_or(Fault::Unfinished))
            }
            Some(_) => End::Judged(Fault::Unfinished),
            None => End::Died(self.stepper.status),
        })
    }

    fn record(&mut self, at: u64) {
        if let Some(place) = TRACE.get(self.length) {
            place.store(at, Relaxed);
            self.length += 1;
        }
    }

    /// Steps through a hook that nothing disturbs, and remembers its instructions. How many, and how it ended.
    pub fn trace(&mut self, case: Case) -> Result<(usize, End), Failed> {
        let case = Case {
            traced: true,
            ..case
        };
        self.length = 0;
        let first = self.cpus.iter().next();
        if !self.begin(case, first)? {
            return Ok((0, End::Judged(Fault::NotHere)));
        }
        // Behind the hook there is nothing to walk through.
        while self.shared.phase.load(Relaxed) == Phase::Front as u32 {
            let pid = self.stepper.pid;
            self.record(ptrace::program_counter(pid)?);
            if let Some(sequence) = self.stepper.exclusive()? {
                let mut at = sequence.from;
                loop {
                    at += crate::arch::decode::length(crate::exclusive::code(pid, at)?);
                    if at >= sequence.to {
                        break;
                    }
                    self.record(at | INSIDE);
                }
            }
            self.stepper.one()?;
            check!(
                self.stepper.is_trapped() && self.length < MOST,
                "in the middle of a hook, after ",
                self.length,
                " instructions, the child ",
                self.stepper.status
            );
        }
        self.run_on(0)?;
        check!(
            self.phase() == Some(Phase::Behind),
            "behind the hook the child ",
            self.stepper.status
        );
        let end = self.finish(0)?;
        Ok((self.length, end))
    }

    /// Where the `nth` recorded instruction is.
    pub fn address(&self, nth: usize) -> u64 {
        traced(nth) & !INSIDE
    }

    /// Stops the child at the `nth` instruction, which stands before the first one.
    fn reach(&mut self, nth: usize) -> Result<bool, Failed> {
        let is_step = |step: usize| traced(step) & INSIDE == 0;
        // The last one up to `nth` that a step ends at.
        let outside = (0..=nth).rev().find(|&step| is_step(step)).unwrap_or(0);
        let mut at = 0;
        while at < outside {
            // As far as one breakpoint goes: to an instruction that does not run before.
            let is_new = |to: usize| (at..to).all(|before| traced(before) != traced(to));
            let far = (at + 1..=outside)
                .rev()
                .find(|&to| is_step(to) && is_new(to));
            let is_there = match far {
                Some(to) => {
                    at = to;
                    self.stepper.run_to([traced(to); 3])?
                }
                // A jump to itself.
                None => {
                    at += 1;
                    self.stepper.one()?;
                    self.stepper.is_trapped()
                }
            };
            if !is_there {
                return Ok(false);
            }
        }
        match nth == outside {
            true => Ok(true),
            false => Ok(self.stepper.run_to([self.address(nth); 3])?),
        }
    }

    /// The case with its signal at the `nth` instruction, where the thread is moved to another CPU.
    pub fn at(&mut self, case: Case, nth: usize) -> Result<End, Failed> {
        let mut cpus = self.cpus.iter();
        let (first, second) = (cpus.next(), cpus.next());
        if !self.begin(case, first)? {
            return Ok(End::Judged(Fault::NotHere));
        }
        if !self.reach(nth)? {
            // It may stand at its idle stop by now.
            return match self.phase() {
                Some(Phase::Idle) | None if !matches!(self.stepper.status, Status::Stopped(_)) => {
                    Ok(End::Died(self.stepper.status))
                }
                Some(Phase::Idle) => Ok(End::Missed),
                _ => {
                    self.run_on(0)?;
                    Ok(End::Missed)
                }
            };
        }
        if let Some(cpu) = second.or(first) {
            sched::allow(self.stepper.pid as u32, &CpuSet::one(cpu))?;
        }
        let signal = match case.act {
            super::case::Act::Nothing => 0,
            _ => signal(case),
        };
        self.finish(signal)
    }
}
