//! The tracer: records the instructions of a hook, and stops the child at any of them.

use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::general::{SIGSTOP, SIGSYS, SIGUSR1};
use rseq_rt::Linux;

use super::acts::{self, SCENE, Scene};
use super::case::{Act, Case};
use super::seam::NoMask;
use super::shared::{self, Fault, Phase, Shared, shared};
use super::subject::{NOT_HERE, Subject};
use crate::arch::decode;
use crate::entry::Env;
use crate::harness::Ctx;
use crate::hooked::RSEQ;
use crate::stepper::{Stepper, stop};
use crate::sys::process::{self, Status, exit_group};
use crate::sys::ptrace;
use crate::sys::sched::{self, CpuSet};
use crate::{exclusive, hooked, signals};

/// More instructions than any hook has.
const MOST: usize = 4096;

/// Flag in an address: a step passes over it, because it is inside of an exclusive sequence.
const INSIDE: u64 = 1 << 63;

/// The child and its recorded instructions.
pub struct Walker {
    stepper: Stepper,
    shared: &'static Shared,
    cpus: CpuSet,
    trace: [u64; MOST],
    length: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Judged(Result<(), Fault>),
    /// The child never reached that instruction.
    Missed,
    Died(Status),
}

fn child(env: &'static Env) -> ! {
    process::no_core_dump();
    let shared = shared();
    let config = hooked::config(env);
    // For threads whose memory is left to a sweep.
    assert_eq!(RSEQ.init(config), Ok(None));
    let subject = Subject::new(config);
    let mut scene = Scene { subject, env };
    SCENE.store(&raw mut scene, Relaxed);
    ptrace::trace_me().unwrap();
    loop {
        shared.phase.set(Phase::Idle);
        stop();
        let Some(case) = shared.case.get() else {
            exit_group(0);
        };
        shared.fault.set(None);
        let handler = match case.refuses_mask {
            false => acts::handler::<Linux>,
            true => acts::handler::<NoMask>,
        };
        // SAFETY: handle (1) it may run at any instruction of a hook: that is what is tested.
        unsafe { signals::handle(signal(case), handler, 0) }.unwrap();
        shared.note(match case.refuses_mask {
            false => scene.subject.run::<Linux>(case),
            true => scene.subject.run::<NoMask>(case),
        });
    }
}

fn signal(case: Case) -> i32 {
    match case.is_sigsys {
        true => SIGSYS as i32,
        false => SIGUSR1 as i32,
    }
}

impl Walker {
    pub fn start(ctx: &Ctx<'_>) -> Self {
        let shared = shared::share();
        // SAFETY: the child is a copy, and never returns; so its copy of the environment stays.
        let env: &'static Env = unsafe { &*core::ptr::from_ref(ctx.env) };
        // SAFETY: start (1) a test is a process of its own.
        let stepper = unsafe { Stepper::start::<()>(|| child(env)) }.unwrap();
        assert!(stepper.stands(), "the child: {}", stepper.status);
        let cpus = sched::allowed().unwrap();
        // The CPU on which each case begins.
        let first = cpus.iter().next().unwrap();
        stepper.move_with_tracer(first).unwrap();
        Self {
            stepper,
            shared,
            cpus,
            trace: [0; MOST],
            length: 0,
        }
    }

    /// The number of handlers that have run.
    pub fn acts(&self) -> u32 {
        self.shared.acts.get()
    }

    /// Lets the child end.
    pub fn end(mut self) {
        self.shared.case.set(None);
        self.stepper.run().unwrap();
        assert_eq!(self.stepper.status, Status::Exited(0));
    }

    fn phase(&self) -> Option<Phase> {
        self.stepper.stands().then(|| self.shared.phase.get())
    }

    /// Binds the child to this CPU.
    fn pin(&self, cpu: Option<u32>) {
        sched::allow(self.stepper.pid as u32, &CpuSet::one(cpu.unwrap())).unwrap();
    }

    /// Runs to the child's next stop; signals on the way are its own.
    fn run_on(&mut self, mut signal: i32) {
        loop {
            self.stepper.run_with(signal).unwrap();
            match self.stepper.status {
                Status::Stopped(stop) if stop != SIGSTOP as i32 => signal = stop,
                _ => return,
            }
        }
    }

    /// Stops before the hook, on the first CPU. False where the state does not allow the hook.
    fn begin(&mut self, case: Case) -> bool {
        self.shared.case.set(Some(case));
        self.pin(self.cpus.iter().next());
        self.run_on(0);
        self.phase() == Some(Phase::Front)
    }

    fn finish(&mut self, signal: i32) -> End {
        self.run_on(signal);
        if self.phase() == Some(Phase::Behind) {
            self.run_on(0);
        }
        match self.phase() {
            Some(Phase::Idle) => End::Judged(match self.shared.fault.get() {
                None => Ok(()),
                Some(fault) => Err(fault),
            }),
            Some(_) => End::Judged(Err("the hook did not finish")),
            None => End::Died(self.stepper.status),
        }
    }

    fn record(&mut self, at: u64) {
        self.trace[self.length] = at;
        self.length += 1;
    }

    /// Steps through an undisturbed hook, and records its instructions. Returns their number, and how it ended; `None`
    /// where the state does not allow the hook.
    pub fn trace(&mut self, case: Case) -> Option<(usize, End)> {
        self.length = 0;
        let stops_behind = true;
        if !self.begin(Case {
            stops_behind,
            ..case
        }) {
            assert_eq!(
                self.phase(),
                Some(Phase::Idle),
                "{case:?}: {}",
                self.stepper.status
            );
            let fault = self.shared.fault.get();
            return match fault {
                Some(NOT_HERE) => None,
                _ => Some((0, End::Judged(Err(fault.unwrap_or("there is no hook"))))),
            };
        }
        // The walk ends with the hook.
        while self.shared.phase.get() == Phase::Front {
            let pid = self.stepper.pid;
            self.record(ptrace::program_counter(pid).unwrap());
            if let Some(sequence) = self.stepper.exclusive().unwrap() {
                let mut at = sequence.from;
                loop {
                    at += decode::length(exclusive::code(pid, at).unwrap());
                    if at >= sequence.to {
                        break;
                    }
                    self.record(at | INSIDE);
                }
            }
            self.stepper.one().unwrap();
            let (status, length) = (self.stepper.status, self.length);
            assert!(
                self.stepper.is_trapped(),
                "{case:?} after {length} instructions: {status}"
            );
        }
        self.run_on(0);
        assert_eq!(self.phase(), Some(Phase::Behind), "{case:?}");
        let end = self.finish(0);
        Some((self.length, end))
    }

    /// The address of the `nth` recorded instruction.
    pub fn address(&self, nth: usize) -> u64 {
        self.trace[nth] & !INSIDE
    }

    /// Stops the child before the first execution of the `nth` instruction. Returns whether it got there.
    fn reach(&mut self, nth: usize) -> bool {
        let trace = &self.trace;
        let is_step = |step: usize| trace[step] & INSIDE == 0;
        // The last one up to `nth` at which a step ends.
        let outside = (0..=nth).rev().find(|&step| is_step(step)).unwrap();
        let mut at = 0;
        while at < outside {
            // As far as one breakpoint reaches: to an instruction that has not run before.
            let is_new = |to: usize| !trace[at..to].contains(&trace[to]);
            let far = (at + 1..=outside)
                .rev()
                .find(|&to| is_step(to) && is_new(to));
            let is_there = match far {
                Some(to) => {
                    at = to;
                    self.stepper.run_to([trace[to]; 3]).unwrap()
                }
                // A jump to itself.
                None => {
                    at += 1;
                    self.stepper.one().unwrap();
                    self.stepper.is_trapped()
                }
            };
            if !is_there {
                return false;
            }
        }
        nth == outside || self.stepper.run_to([self.address(nth); 3]).unwrap()
    }

    /// Runs the case with its signal at the `nth` instruction, where the thread is moved to another CPU.
    pub fn at(&mut self, case: Case, nth: usize) -> End {
        assert!(self.begin(case), "{case:?}");
        if !self.reach(nth) {
            return match self.stepper.status {
                // It may be at its idle stop by now.
                Status::Stopped(_) => {
                    if self.phase() != Some(Phase::Idle) {
                        self.run_on(0);
                    }
                    End::Missed
                }
                status => End::Died(status),
            };
        }
        let second = self.cpus.iter().nth(1);
        self.pin(second.or(self.cpus.iter().next()));
        match case.act {
            Act::Nothing => self.finish(0),
            _ => self.finish(signal(case)),
        }
    }
}
