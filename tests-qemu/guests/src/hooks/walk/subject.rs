//! The traced child: it makes the state before, and runs the hook between its stops.

use core::hint::black_box;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use linux_raw_sys::general::{SIGKILL, SIGSTOP, SIGSYS};
use rseq_rt::{Area, Config, Exit, ExitMode, Lent, State, arch};

use super::case::{Before, Case, Hook};
use super::fault::Fault;
use super::judge::{Outcome, is_ours};
use super::place::{Place, forget};
use super::seam::{CALLBACKS, Seen};
use super::shared::{Phase, phase};
use crate::errno::Errno;
use crate::stack::Stack;
use crate::stepper::stop;
use crate::sys::rseq::rseq;
use crate::sys::sched::{self, CpuSet};
use crate::sys::signal::{self, Mask};
use crate::witness::{self, Known};

/// The child, and what it needs for each case.
pub struct Subject {
    /// Of the area.
    pub place: Place,
    foreign: Place,
    /// All that it may use.
    pub cpus: CpuSet,
    config: Config,
    /// Of all registrations.
    length: u32,
    /// For vfork children.
    pub stack: Stack,
}

/// All signals that can be blocked, but SIGSYS.
const ALL: u64 =
    !(signal::bit(SIGSYS as i32) | signal::bit(SIGKILL as i32) | signal::bit(SIGSTOP as i32));

impl Subject {
    /// For all cases.
    pub fn new(config: Config) -> Result<Self, Errno> {
        Ok(Self {
            place: Place::map()?,
            foreign: Place::map()?,
            cpus: sched::allowed()?,
            config,
            length: config.length(),
            stack: Stack::map(64 * 1024)?,
        })
    }

    /// The area.
    pub fn area(&self) -> &'static Area {
        self.place.area()
    }

    /// What the kernel knows of the thread and its area.
    pub fn ask(&self) -> Known {
        witness::ask(self.area(), self.length)
    }

    /// One case, from its state before to its judgement.
    pub fn run<K: Seen>(&self, case: Case) -> Fault {
        let outcome = match self.prepare::<K>(case.before) {
            Ok(()) => self.hook::<K>(case),
            Err(fault) => Err(fault),
        };
        let fault = match outcome {
            Ok(outcome) => self.judge::<K>(case, outcome),
            Err(fault) => fault,
        };
        let _ = signal::mask(Mask::Exactly(0));
        forget(self.area(), self.length);
        forget(self.foreign.area(), self.length);
        fault
    }

    fn prepare<K: Seen>(&self, before: Before) -> Result<(), Fault> {
        let area = self.area();
        let fresh = K::process();
        CALLBACKS.renew();
        self.place.renew(before == Before::Zeroed);
        self.foreign.renew(false);
        let config = match before {
            Before::Disabled => self.config.disabled(),
            _ => self.config,
        };
        if !fresh.renew(K::KERNEL, config) {
            return Err(Fault::Prepare);
        }
        let process = fresh.get();
        if !matches!(before, Before::Zeroed | Before::Disabled) {
            // The process has decided by another area.
            // SAFETY: ensure_registered (1, 2) this thread's, undone at once.
            let decided = unsafe { process.ensure_registered(self.foreign.area()) };
            forget(self.foreign.area(), self.length);
            self.foreign.renew(false);
            if decided.is_err() || process.length() != self.length {
                return Err(Fault::Prepare);
            }
        }
        if matches!(before, Before::Taken | Before::KnownTaken) {
            let at = ptr::from_ref(self.foreign.area()).cast_mut().cast();
            // SAFETY: (1) a static page; (2) nothing was registered.
            if unsafe { rseq(at, self.length, 0, arch::SIGNATURE) }.is_err() {
                return Err(Fault::Prepare);
            }
        }
        if matches!(
            before,
            Before::Lazy | Before::Lent | Before::KnownTaken | Before::Exiting
        ) {
            // SAFETY: ensure_registered (1, 2) this thread's, ended in `run`.
            let ensured = unsafe { process.ensure_registered(area) };
            if ensured.is_err() || ensured == Ok(State::Unregistered) {
                return Err(Fault::Prepare);
            }
        }
        if before == Before::Exiting {
            // SAFETY: current_thread (1, 2) this thread's, and there is no other.
            let thread = unsafe { process.current_thread(area) }.map_err(|_| Fault::Prepare)?;
            let _kept = thread.on_exit(ExitMode::Keep);
            let _ = signal::mask(Mask::Exactly(0));
        }
        Ok(())
    }

    /// Runs the hook between two stops.
    fn hook<K: Seen>(&self, case: Case) -> Result<Outcome, Fault> {
        let area = self.area();
        let process = K::process().get();
        let mut outcome = Outcome::default();
        // Dropped at the end of the case, or forgotten.
        let loan = matches!(case.before, Before::Lent | Before::LentNew)
            // SAFETY: Lent::of (1) this thread's only area.
            .then(|| unsafe { Lent::of(area) }.into_raw());
        // SAFETY: on_thread_create (1, 2, 3) this thread's, ended in `run`.
        let create = || unsafe { process.on_thread_create(area) }.map_err(|_| Fault::NotHere);
        // SAFETY: current_thread (1, 2) this thread's, one at a time.
        let current = || unsafe { process.current_thread(area) }.map_err(|_| Fault::NotHere);
        let created = match case.before {
            Before::Created => Some(create()?),
            _ => None,
        };
        let thread = || match case.before {
            Before::Zeroed | Before::New | Before::Taken | Before::Disabled => create(),
            _ => current(),
        };
        let masked = || {
            let _ = signal::mask(Mask::Exactly(ALL));
            // SAFETY: assume_blocked (1): just blocked.
            unsafe { rseq_rt::SignalMask::assume_blocked(0) }
        };
        let between = |run: &mut dyn FnMut()| {
            phase(Phase::Front);
            stop();
            run();
            phase(Phase::Behind);
            if case.traced {
                stop();
            }
        };
        match case.hook {
            Hook::Create => between(&mut || {
                // SAFETY: on_thread_create (1, 2, 3) as above.
                outcome.refused = unsafe { process.on_thread_create(area) }.is_err();
            }),
            Hook::CreateMasked => {
                let mask = masked();
                outcome.blocked = ALL;
                between(&mut || {
                    // SAFETY: on_thread_create_masked (1, 2, 3) as above.
                    let created = unsafe { process.on_thread_create_masked(area, &mask) };
                    outcome.refused = created.is_err();
                });
            }
            Hook::Ensure => between(&mut || {
                // SAFETY: ensure_registered (1, 2) as above.
                outcome.refused = unsafe { process.ensure_registered(area) }.is_err();
            }),
            Hook::Lend => {
                let mut lent = 0;
                between(&mut || {
                    // SAFETY: Lent::of (1) this thread's only area.
                    lent = unsafe { Lent::of(area) }.into_raw();
                });
                end_loan(area, lent)?;
            }
            Hook::EndLoan => {
                // SAFETY: Lent::of (1) this thread's only area.
                let mut lent = Some(unsafe { Lent::of(area) });
                between(&mut || {
                    if let Some(lent) = lent.take() {
                        lent.end();
                    }
                });
            }
            Hook::BrokenLend => {
                const BIT: u32 = 1 << 8;
                // SAFETY: in the area; the broken variant of a loan.
                let word = unsafe {
                    let word = ptr::from_ref(area).cast::<u8>().add(Area::STATE_OFFSET);
                    &*word.cast::<AtomicU32>()
                };
                between(&mut || word.store(black_box(word.load(Relaxed)) | BIT, Relaxed));
                end_loan(area, 1)?;
            }
            Hook::Keep | Hook::Release => {
                let mode = match case.hook {
                    Hook::Keep => ExitMode::Keep,
                    _ => ExitMode::Release,
                };
                let mut thread = Some(created.map_or_else(thread, Ok)?);
                outcome.was_registered = is_ours(area);
                outcome.blocked = if K::MASKS { ALL } else { 0 };
                between(&mut || {
                    if let Some(thread) = thread.take() {
                        outcome.exit(thread.on_exit(mode));
                    }
                });
            }
            Hook::KeepMasked | Hook::ReleaseMasked => {
                let mode = match case.hook {
                    Hook::KeepMasked => ExitMode::Keep,
                    _ => ExitMode::Release,
                };
                let mut thread = Some(created.map_or_else(thread, Ok)?);
                outcome.was_registered = is_ours(area);
                let mask = masked();
                outcome.blocked = ALL;
                between(&mut || {
                    if let Some(thread) = thread.take() {
                        outcome.exit(thread.on_exit_masked(mode, &mask));
                    }
                });
            }
            Hook::ScopedBegin => {
                let mut scoped = None;
                between(&mut || {
                    // SAFETY: scoped (1, 2, 3) this thread's, ended in `run`.
                    scoped = unsafe { process.scoped(area) }.ok();
                });
                outcome.refused = scoped.is_none();
                core::mem::forget(scoped);
            }
            Hook::ScopedEnd => {
                // SAFETY: scoped (1, 2, 3) as above.
                let scoped = unsafe { process.scoped(area) }.map_err(|_| Fault::NotHere)?;
                let mut scoped = Some(scoped);
                between(&mut || {
                    if let Some(scoped) = scoped.take() {
                        outcome.refused = scoped.end().is_err();
                    }
                });
            }
            Hook::Recycle => {
                let thread = created.map_or_else(thread, Ok)?;
                let Exit::Released(gone) = thread.on_exit(ExitMode::Release) else {
                    return Err(Fault::NotHere);
                };
                outcome.blocked = ALL;
                // SAFETY: recycle_area (1) blocked.
                between(&mut || unsafe { gone.recycle_area() });
            }
            Hook::AtExit => {
                let thread = created.map_or_else(thread, Ok)?;
                CALLBACKS.push();
                CALLBACKS.push();
                between(&mut || thread.run_at_exit(CALLBACKS.get()));
            }
        }
        if let Some(loan) = loan {
            end_loan(area, loan)?;
        }
        Ok(outcome)
    }
}

fn end_loan(area: &Area, loan: u8) -> Result<(), Fault> {
    // SAFETY: from_raw (1) of this thread, not ended yet; (2) no child runs.
    match unsafe { Lent::from_raw(area, loan) } {
        Some(lent) => lent.end(),
        None => return Err(Fault::Loan),
    }
    Ok(())
}
