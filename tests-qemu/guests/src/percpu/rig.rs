//! Disturbs the operations deliberately at each step of a section, as often as requested. A worker to be disturbed arms
//! its timer and runs the section that can stop. The section waits at its step. The signal finds it there, takes the
//! cell's action, and releases it; by then the kernel has sent it to its abort handler.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use linux_raw_sys::general::{SIGUSR1, siginfo_t};
use rseq_rt::percpu::inject::Steps;
use rseq_rt::percpu::{Commit, Current, Index, Miss, Operation, RESTARTS};

use super::slot::{Slot, slots};
use super::stops::{Stops, stops};
use crate::hooked;
use crate::signals;
use crate::sys::process;
use crate::sys::sched::{self, CpuSet};
use crate::sys::time::{self, Span};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The section is delayed on a fully loaded machine.
    Delay,
    /// A signal whose handler does nothing.
    Signal,
    /// The handler gives up the CPU.
    Yield,
    Sleep,
    /// The handler moves to another CPU, and another thread moves this one too.
    Migrate,
    Any,
}

/// All but `Any`.
pub const ACTIONS: [Action; 5] = [
    Action::Delay,
    Action::Signal,
    Action::Yield,
    Action::Sleep,
    Action::Migrate,
];

const DELAY: u32 = Action::Delay as u32;
const SIGNAL: u32 = Action::Signal as u32;
const YIELD: u32 = Action::Yield as u32;
const SLEEP: u32 = Action::Sleep as u32;
const MIGRATE: u32 = Action::Migrate as u32;

/// Maximum number of threads: six per CPU, on a machine of 128. Unused entries are untouched zeroes.
pub const WORKERS: usize = 768;

/// Bound for a stop that waits for the signal, so that a lost one costs a moment rather than the test.
const WAIT: u32 = 200_000;
const HIT: i32 = SIGUSR1 as i32;

/// The disturbance of one worker.
pub struct Worker {
    steps: Steps,
    armed: AtomicU32,
    action: AtomicU32,
    timer: AtomicU32,
    soon: AtomicU64,
    random: AtomicU64,
    /// Its tid, for the threads that move it; 0 before and after.
    pub tid: AtomicU32,
}

pub static WORKER: [Worker; WORKERS] = [const {
    Worker {
        steps: Steps::new(),
        armed: AtomicU32::new(0),
        action: AtomicU32::new(0),
        timer: AtomicU32::new(0),
        soon: AtomicU64::new(0),
        random: AtomicU64::new(0),
        tid: AtomicU32::new(0),
    }
}; WORKERS];

pub static ABORTS: AtomicU64 = AtomicU64::new(0);
/// Stops at which a signal found a section.
pub static HITS: AtomicU64 = AtomicU64::new(0);
/// How often each action was taken, in the order of [`ACTIONS`], at a step that a section had reached.
static TAKEN: [AtomicU64; ACTIONS.len()] = [const { AtomicU64::new(0) }; ACTIONS.len()];
/// Microseconds to the signal.
pub static SOON: AtomicU64 = AtomicU64::new(5);
/// Turns of a long delay.
pub static LONG: AtomicU32 = AtomicU32::new(WAIT);

/// How often each action was taken.
pub fn taken() -> [u64; ACTIONS.len()] {
    TAKEN.each_ref().map(|count| count.load(Relaxed))
}

fn take(action: u32) {
    TAKEN[action as usize].fetch_add(1, Relaxed);
}

pub fn handler() {
    unsafe extern "C" fn hit(_: i32, _: *mut siginfo_t, _: *mut u8) {
        WORKER[hooked::here().unwrap().argument].hit();
    }
    // SAFETY: handle (1) only atomics and system calls.
    unsafe { signals::handle(HIT, hit, 0) }.unwrap();
}

impl Worker {
    /// Called first on its thread.
    pub fn enter(&self, seed: u64) {
        let tid = process::gettid();
        let timer = time::timer_create(tid, HIT).unwrap();
        self.timer.store(timer as u32, Relaxed);
        self.random.store(seed | 1, Relaxed);
        self.tid.store(tid, Relaxed);
    }

    /// Called last on its thread.
    pub fn leave(&self) {
        self.tid.store(0, Relaxed);
        let _ = time::timer_delete(self.timer.load(Relaxed) as i32);
    }

    /// xorshift64.
    pub fn random(&self) -> u64 {
        let mut x = self.random.load(Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.store(x, Relaxed);
        x
    }

    fn again(&self) {
        // Doubled each time; otherwise a slow machine would only take signals.
        let span = self.soon.load(Relaxed);
        self.soon.store(span.saturating_mul(2), Relaxed);
        let _ = time::timer_once(self.timer.load(Relaxed) as i32, Span::micros(span));
    }

    fn hit(&self) {
        if self.armed.load(Relaxed) == 0 {
            return;
        }
        // Not at the step yet.
        if self.steps.here.load(Relaxed) == 0 {
            return self.again();
        }
        HITS.fetch_add(1, Relaxed);
        let action = self.action.load(Relaxed);
        let done = match action {
            SIGNAL => true,
            YIELD => {
                sched::relax();
                true
            }
            SLEEP => time::sleep(Span(1)).is_ok(),
            MIGRATE => self.migrate(),
            _ => false,
        };
        if done {
            take(action);
        }
        self.steps.turns.store(0, Relaxed);
    }

    /// Moves to some CPU, and lifts the restriction again. Returns whether the CPU changed.
    fn migrate(&self) -> bool {
        let cpus = crate::witness::cpus();
        let nth = self.random() as usize % cpus.count().max(1) as usize;
        let cpu = cpus.iter().nth(nth).unwrap();
        let before = sched::getcpu();
        let moved = sched::allow(0, &CpuSet::one(cpu));
        let _ = sched::allow(0, &cpus);
        moved.is_ok() && before.is_ok_and(|(before, _)| before != cpu)
    }

    fn arm(&self, action: Action, step: u32) {
        let action = match action {
            Action::Any => self.random() as u32 % ACTIONS.len() as u32,
            action => action as u32,
        };
        self.action.store(action, Relaxed);
        self.steps.here.store(0, Relaxed);
        self.steps.left.store(step, Relaxed);
        let turns = if action == DELAY {
            // Most delays are short; some are so long that the time slice may end in them.
            let long = self.random().is_multiple_of(64);
            self.random() as u32 % if long { LONG.load(Relaxed) } else { 2_000 }
        } else {
            WAIT
        };
        self.steps.turns.store(turns, Relaxed);
        if action != DELAY {
            self.soon.store(SOON.load(Relaxed), Relaxed);
            self.armed.store(1, Relaxed);
            self.again();
        }
    }

    /// Runs one section that stops, at one of its steps. The first of its kind counts the steps.
    fn stop<T>(
        &self,
        action: Action,
        stops: &Stops,
        section: impl FnOnce() -> Result<T, Miss>,
    ) -> Result<T, Miss> {
        let count = stops.count.load(Relaxed);
        if count == 0 {
            // Counted down by each step, never to 0.
            self.steps.left.store(u32::MAX, Relaxed);
            let result = section();
            if result.is_ok() {
                stops.counted(u32::MAX - self.steps.left.load(Relaxed));
            }
            return result;
        }
        let nth = stops.next(count);
        self.arm(action, nth + 1);
        let result = section();
        self.armed.store(0, Relaxed);
        if self.steps.here.load(Relaxed) != 0 {
            stops.reached.fetch_or(1 << nth, Relaxed);
            // Needs no signal: the action was taken if the section reached the step.
            if self.action.load(Relaxed) == DELAY {
                take(DELAY);
            }
        }
        result
    }

    /// Runs one operation to its end: first disturbed if `disturb`, then retried up to the bound. `ask` inspects the
    /// slot and returns the operation, anew for each try. `None`: it missed, and the caller continues without a slot.
    pub fn run<I: Index>(
        &self,
        current: Option<Current<'_, I>>,
        commit: Commit,
        disturb: Option<Action>,
        mut ask: impl FnMut(&Slot) -> Option<Operation>,
    ) -> Result<*mut u8, Miss> {
        let (Some(current), Some(slots)) = (current, slots::<I>()) else {
            return Err(Miss::OutOfRange);
        };
        let mut disturb = disturb;
        let mut aborts = 0;
        loop {
            let Some(slot) = slots.get(current.id()) else {
                return Err(Miss::OutOfRange);
            };
            // Full, or empty.
            let Some(op) = ask(slot) else {
                return Err(Miss::Differs);
            };
            let result = match disturb.take() {
                Some(action) => {
                    // SAFETY: `ask` (1) keeps the conditions: its words are those of `Slot`.
                    self.stop(action, stops::<I>(&op), || unsafe {
                        current.stopping(slots, op, commit, &self.steps)
                    })
                }
                // SAFETY: as above.
                None => unsafe { current.restarts(0).run(slots, op, commit) },
            };
            match result {
                Err(Miss::Aborted) if aborts < RESTARTS => {
                    ABORTS.fetch_add(1, Relaxed);
                    aborts += 1;
                }
                // The result of a pop; all others retry.
                Err(Miss::Differs) if !matches!(op, Operation::Pop { .. }) => {}
                end => return end,
            }
        }
    }

    /// As [`Self::run`], for a user-defined section: with a place to stop, if given one.
    pub fn run_own(
        &self,
        stops: &Stops,
        disturb: Option<Action>,
        mut section: impl FnMut(Option<&Steps>) -> Result<usize, Miss>,
    ) -> Result<usize, Miss> {
        let mut result = match disturb {
            Some(action) => self.stop(action, stops, || section(Some(&self.steps))),
            None => section(None),
        };
        for _ in 0..RESTARTS {
            if result != Err(Miss::Aborted) {
                break;
            }
            ABORTS.fetch_add(1, Relaxed);
            result = section(None);
        }
        result
    }
}
