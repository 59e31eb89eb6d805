//! The traced child: it sets up the state, and runs the hook between its stops.

use core::hint::black_box;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::general::{SIGKILL, SIGSTOP, SIGSYS};
use rseq_rt::{Area, Config, Exit, ExitMode, Lent, SignalMask, State, arch};

use super::case::{Before, Case, Hook};
use super::judge::{Outcome, is_ours};
use super::place::{Place, forget};
use super::seam::{CALLBACKS, Seam, push_callback, renew_callbacks};
use super::shared::{Fault, Phase, must, shared};
use super::slice;
use super::sweep::{self, List};
use crate::hooks::common::{Hooks as _, at};
use crate::hooks::lifetime::kept::DEFERRED;
use crate::stack::Stack;
use crate::stepper::stop;
use crate::sys::rseq::rseq;
use crate::sys::sched::{self, CpuSet};
use crate::sys::signal::{self, Mask};
use crate::witness::{self, Known};

/// The child, and its resources for each case.
pub struct Subject {
    pub place: Place,
    /// A foreign area.
    other: Place,
    /// All CPUs that it may use.
    pub cpus: CpuSet,
    config: Config,
    /// For vfork children.
    pub stack: Stack,
}

/// All signals that can be blocked, but SIGSYS.
const ALL: u64 =
    !(signal::bit(SIGSYS as i32) | signal::bit(SIGKILL as i32) | signal::bit(SIGSTOP as i32));

/// The state does not allow the hook.
pub const NOT_HERE: Fault = "the state before does not allow this hook";

impl Subject {
    pub fn new(config: Config) -> Self {
        Self {
            place: Place::map(),
            other: Place::map(),
            cpus: sched::allowed().unwrap(),
            config,
            stack: Stack::map(64 * 1024).unwrap(),
        }
    }

    pub fn area(&self) -> &'static Area {
        self.place.area()
    }

    /// The kernel's view of the thread and its area.
    pub fn ask(&self) -> Known {
        witness::ask(self.area(), self.config.length())
    }

    /// Runs one case, from its initial state to the checks.
    pub fn run<K: Seam>(&self, case: Case) -> Result<(), Fault> {
        self.prepare::<K>(case);
        let judged = self
            .hook::<K>(case)
            .and_then(|outcome| self.judge::<K>(case, outcome));
        signal::mask(Mask::Exactly(0)).unwrap();
        forget(self.area(), self.config.length());
        forget(self.other.area(), self.config.length());
        judged
    }

    fn prepare<K: Seam>(&self, case: Case) {
        let (area, other) = (self.area(), self.other.area());
        let length = self.config.length();
        renew_callbacks();
        self.place.renew(case.before == Before::Zeroed);
        self.other.renew(false);
        let process = K::process();
        process.renew(rseq_rt::Process::with_kernel(K::KERNEL));
        let process = process.get();
        if case.before == Before::Disabled {
            process.init(self.config.disabled()).unwrap();
            return;
        }
        process.init(self.config).unwrap();
        if case.before != Before::Zeroed {
            // The process has decided on another area.
            process.ensure(other).unwrap();
            forget(other, length);
            self.other.renew(false);
            assert_eq!(process.length(), length);
        }
        if case.is_taken() {
            // SAFETY: (1) a static page; (2) nothing was registered.
            unsafe { rseq(at(other), length, 0, arch::SIGNATURE) }.unwrap();
        }
        if matches!(
            case.before,
            Before::Lazy | Before::Lent | Before::KnownTaken | Before::Exiting
        ) {
            let ensured = process.ensure(area);
            assert_ne!(ensured.unwrap(), State::Unregistered);
        }
        if case.before == Before::Exiting {
            let thread = process.thread_of(area).unwrap();
            let _kept = thread.on_exit(ExitMode::Keep);
            signal::mask(Mask::Exactly(0)).unwrap();
        }
    }

    /// Runs the hook between two stops.
    fn hook<K: Seam>(&self, case: Case) -> Result<Outcome, Fault> {
        let area = self.area();
        let process = K::process().get();
        let mut outcome = Outcome::default();
        // Ended at the end of the case, or forgotten.
        let loan = matches!(case.before, Before::Lent | Before::LentNew)
            // SAFETY: Lent::of (1) this thread's only area.
            .then(|| unsafe { Lent::of(area) }.into_raw());
        let create = || process.create(area).map_err(|_| NOT_HERE);
        let current = || process.thread_of(area).map_err(|_| NOT_HERE);
        let created = match case.before {
            Before::Created => Some(create()?),
            _ => None,
        };
        let thread = || match case.before {
            Before::Zeroed | Before::New | Before::Taken | Before::Disabled => create(),
            _ => current(),
        };
        let masked = || {
            signal::mask(Mask::Exactly(ALL)).unwrap();
            // SAFETY: assume_blocked (1): just blocked.
            unsafe { SignalMask::assume_blocked(0) }
        };
        let is_armed = || {
            if is_ours(area) {
                slice::arm(area);
            }
            area.has_slice_extension()
        };
        match case.hook {
            Hook::Create => {
                let created = between(case, || process.create(area));
                outcome.refused = created.is_err();
            }
            Hook::CreateMasked => {
                let mask = masked();
                outcome.blocked = ALL;
                let created = between(case, || process.create_masked(area, &mask));
                outcome.refused = created.is_err();
            }
            Hook::Ensure => {
                let ensured = between(case, || process.ensure(area));
                outcome.refused = ensured.is_err();
            }
            Hook::Lend => {
                // SAFETY: Lent::of (1) this thread's only area.
                let lent = between(case, || unsafe { Lent::of(area) });
                lent.end();
            }
            Hook::EndLoan => {
                // SAFETY: Lent::of (1) this thread's only area.
                let lent = unsafe { Lent::of(area) };
                between(case, || lent.end());
            }
            Hook::BrokenLend => {
                const LOAN: u32 = 1 << 8;
                let word = slice::word(area);
                between(case, || {
                    word.store(black_box(word.load(Relaxed)) | LOAN, Relaxed);
                });
                end_loan(area, 1)?;
            }
            Hook::Keep | Hook::Release => {
                let thread = created.map_or_else(thread, Ok)?;
                outcome.was_registered = is_ours(area);
                outcome.blocked = if K::MASKS { ALL } else { 0 };
                let mode = match case.hook {
                    Hook::Keep => ExitMode::Keep,
                    _ => ExitMode::Release,
                };
                outcome.exit(between(case, || thread.on_exit(mode)));
            }
            Hook::KeepMasked | Hook::ReleaseMasked => {
                let thread = created.map_or_else(thread, Ok)?;
                outcome.was_registered = is_ours(area);
                let mask = masked();
                outcome.blocked = ALL;
                let mode = match case.hook {
                    Hook::KeepMasked => ExitMode::Keep,
                    _ => ExitMode::Release,
                };
                outcome.exit(between(case, || thread.on_exit_masked(mode, &mask)));
            }
            Hook::ScopedBegin => {
                let scoped = between(case, || process.scope(area));
                outcome.refused = scoped.is_err();
                core::mem::forget(scoped);
            }
            Hook::ScopedEnd => {
                let scoped = process.scope(area).map_err(|_| NOT_HERE)?;
                outcome.refused = between(case, || scoped.end()).is_err();
            }
            Hook::Recycle => {
                let thread = created.map_or_else(thread, Ok)?;
                let Exit::Released(gone) = thread.on_exit(ExitMode::Release) else {
                    return Err(NOT_HERE);
                };
                outcome.blocked = ALL;
                // SAFETY: recycle_area (1) blocked.
                between(case, || unsafe { gone.recycle_area() });
            }
            Hook::AtExit => {
                let thread = created.map_or_else(thread, Ok)?;
                push_callback();
                push_callback();
                between(case, || thread.run_at_exit(CALLBACKS.get()));
            }
            Hook::RequestSlice => {
                let is_armed = is_armed();
                let request = between(case, || area.request_slice());
                slice::judge(area.yield_slice(request), is_armed)?;
            }
            Hook::YieldSlice => {
                let is_armed = is_armed();
                let request = area.request_slice();
                let end = between(case, || area.yield_slice(request));
                slice::judge(end, is_armed)?;
            }
            Hook::BrokenYieldSlice => {
                let is_armed = is_armed();
                let _request = area.request_slice();
                let end = between(case, || slice::broken_yield(area));
                slice::judge(end, is_armed)?;
            }
            Hook::Sweep => {
                let list = List::new();
                list.judge(between(case, || DEFERRED.sweep()))?;
            }
            Hook::BrokenSweep => {
                let list = List::new();
                list.judge(between(case, || sweep::broken(&list)))?;
            }
        }
        if let Some(loan) = loan {
            end_loan(area, loan)?;
        }
        Ok(outcome)
    }
}

/// Runs the code under the walk.
fn between<R>(case: Case, run: impl FnOnce() -> R) -> R {
    shared().phase.set(Phase::Front);
    stop();
    let outcome = run();
    shared().phase.set(Phase::Behind);
    if case.stops_behind {
        stop();
    }
    outcome
}

fn end_loan(area: &Area, loan: u8) -> Result<(), Fault> {
    // SAFETY: from_raw (1) of this thread, not ended yet; (2) no child runs.
    let lent = unsafe { Lent::from_raw(area, loan) };
    must(
        lent.map(Lent::end).is_some(),
        "the loan is not out any more",
    )
}
