//! What must be true behind a hook, whatever a handler has done in the middle of it.

use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::general::SIGTRAP;
use rseq_rt::{Area, Exit, Kernel, Owner, Process, State};

use super::case::{Before, Case, Hook};
use super::fault::Fault;
use super::seam::{CALLBACKS, CALLED, PUSHED, Seen};
use super::subject::Subject;
use crate::sys::sched::{self, CpuSet};
use crate::sys::signal::{self, Mask};
use crate::witness::{self, Known};

/// What came of the hook.
#[derive(Default)]
pub struct Outcome {
    /// It answered an error.
    pub refused: bool,
    /// The exit hook released.
    pub released: bool,
    /// The thread was registered in front of the exit hook.
    pub was_registered: bool,
    /// The mask behind it.
    pub blocked: u64,
}

impl Outcome {
    /// From the exit hook.
    pub fn exit(&mut self, exit: Exit<'_>) {
        self.released = matches!(exit, Exit::Released(_));
    }
}

impl Subject {
    /// The kernel is asked, and the memory is looked at.
    pub fn judge<K: Seen>(&self, case: Case, outcome: Outcome) -> Fault {
        let area = self.area();
        let blocked = signal::blocked().unwrap_or(1);
        // A breakpoint opens the signal that it is.
        if (blocked ^ outcome.blocked) & !signal::bit(SIGTRAP as i32) != 0 {
            return Fault::Mask;
        }
        let is_taken = matches!(case.before, Before::Taken | Before::KnownTaken);
        let may_refuse = match case.before {
            Before::Lent | Before::LentNew | Before::Exiting | Before::Created => true,
            Before::Taken | Before::KnownTaken => case.hook == Hook::ScopedEnd,
            Before::Disabled => false,
            _ => !K::MASKS && case.hook == Hook::ScopedEnd,
        };
        if outcome.refused && !may_refuse {
            return Fault::Refused;
        }
        // Before and after what waited for the mask is delivered.
        for open in [false, true] {
            if open {
                let _ = signal::mask(Mask::Exactly(0));
            }
            let known = self.ask();
            let fault = match area.state() {
                State::Exiting if outcome.released && known == Known::This => Fault::Released,
                State::Exiting if outcome.was_registered && !outcome.released => match known {
                    Known::This => Fault::None,
                    _ => Fault::Lost,
                },
                State::Exiting => Fault::None,
                state => agree(state, known, K::process().get(), area),
            };
            if fault != Fault::None {
                return fault;
            }
            if is_taken && known != Known::Other {
                return Fault::Taken;
            }
        }
        if case.is_moved && is_ours(area) && is_wrong_somewhere(K::process().get(), area, self.cpus)
        {
            return Fault::Cpu;
        }
        if case.is_moved
            && outcome.released
            && area.state() == State::Exiting
            && !self.place.is_left_alone(self.cpus)
        {
            return Fault::Written;
        }
        CALLBACKS.get().run();
        if PUSHED.load(Relaxed) != CALLED.load(Relaxed) {
            return Fault::Callbacks;
        }
        match self.place.is_clean() {
            true => Fault::None,
            false => Fault::Stray,
        }
    }
}

/// Has this runtime registered the thread?
pub fn is_ours(area: &Area) -> bool {
    area.state() == State::Registered(Owner::Runtime)
}

/// Does the kernel know what the state says? And is the CPU that is read the kernel's?
pub fn agree<K: Kernel>(state: State, known: Known, process: &Process<K>, area: &Area) -> Fault {
    match (state, known) {
        (State::Registered(Owner::Runtime), Known::This) => {
            let kernels = sched::getcpu().map(|(cpu, _)| cpu);
            match kernels.is_ok_and(|cpu| process.current_cpu(area) == Ok(cpu)) {
                true => Fault::None,
                // Moved between the two reads, where more than one CPU is allowed.
                false
                    if process
                        .current_cpu(area)
                        .is_ok_and(|cpu| witness::cpus().has(cpu)) =>
                {
                    Fault::None
                }
                false => Fault::Cpu,
            }
        }
        (State::Registered(_), _) => Fault::Registered,
        (_, Known::This) => Fault::Denied,
        _ => Fault::None,
    }
}

fn is_wrong_somewhere<K: Kernel>(process: &Process<K>, area: &Area, cpus: CpuSet) -> bool {
    let wrong = cpus.iter().any(|cpu| {
        sched::allow(0, &CpuSet::one(cpu)).is_err() || process.current_cpu(area) != Ok(cpu)
    });
    let _ = sched::allow(0, &cpus);
    wrong
}
