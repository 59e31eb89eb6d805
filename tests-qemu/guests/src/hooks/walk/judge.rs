//! The postconditions of a hook, whatever a handler did in the middle of it.

use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::general::SIGTRAP;
use rseq_rt::{Area, Exit, Kernel, Owner, Process, State};

use super::case::{Before, Case, Hook};
use super::seam::{CALLBACKS, CALLED, PUSHED, Seam};
use super::shared::{Fault, must};
use super::subject::Subject;
use crate::sys::sched::{self, CpuSet};
use crate::sys::signal::{self, Mask};
use crate::witness::{self, Known};

#[derive(Default)]
pub struct Outcome {
    /// It returned an error.
    pub refused: bool,
    /// The exit hook released the area.
    pub released: bool,
    /// The thread was registered before the exit hook.
    pub was_registered: bool,
    /// The mask after the hook.
    pub blocked: u64,
}

impl Outcome {
    pub fn exit(&mut self, exit: Exit<'_>) {
        self.released = matches!(exit, Exit::Released(_));
    }
}

/// The state says unregistered, but the kernel knows the area: the fault of the broken loan.
pub const DENIED: Fault = "the state says not registered, and the kernel knows the area";

impl Subject {
    /// Queries the kernel, and checks the memory.
    pub fn judge<K: Seam>(&self, case: Case, outcome: Outcome) -> Result<(), Fault> {
        let area = self.area();
        let process = K::process().get();
        let blocked = signal::blocked().unwrap();
        // A breakpoint unblocks its own signal.
        let differs = (blocked ^ outcome.blocked) & !signal::bit(SIGTRAP as i32) != 0;
        must(!differs, "the signal mask is not what the hook promises")?;
        let may_refuse = match case.before {
            Before::Lent | Before::LentNew | Before::Exiting | Before::Created => true,
            Before::Taken | Before::KnownTaken => case.hook == Hook::ScopedEnd,
            Before::Disabled => false,
            _ => !K::MASKS && case.hook == Hook::ScopedEnd,
        };
        must(
            !outcome.refused || may_refuse,
            "the hook answered an error that its state does not explain",
        )?;
        self.judge_registration(case, &outcome, process)?;
        // A signal that was blocked is delivered now.
        signal::mask(Mask::Exactly(0)).unwrap();
        self.judge_registration(case, &outcome, process)?;
        if case.is_moved && is_ours(area) {
            must(
                is_right_everywhere(process, area, self.cpus),
                "the CPU read is another than the kernel's",
            )?;
        }
        if case.is_moved && outcome.released && area.state() == State::Exiting {
            must(
                self.place.is_left_alone(self.cpus),
                "the kernel wrote to an area after its release",
            )?;
        }
        CALLBACKS.get().run();
        must(
            PUSHED.load(Relaxed) == CALLED.load(Relaxed),
            "a callback was accepted and not called, or called twice",
        )?;
        must(self.place.is_clean(), "memory beside the area has changed")
    }

    fn judge_registration<K: Kernel>(
        &self,
        case: Case,
        outcome: &Outcome,
        process: &Process<K>,
    ) -> Result<(), Fault> {
        let known = self.ask();
        match self.area().state() {
            State::Exiting if outcome.released => must(
                known != Known::This,
                "released, and the kernel knows the area",
            )?,
            State::Exiting if outcome.was_registered => must(
                known == Known::This,
                "kept, and the kernel does not know the registered area",
            )?,
            State::Exiting => {}
            state => agree(state, known, process, self.area())?,
        }
        must(
            !case.is_taken() || known == Known::Other,
            "the kernel knows no area, or ours, where another one is registered",
        )
    }
}

/// Whether this runtime has registered the thread.
pub fn is_ours(area: &Area) -> bool {
    area.state() == State::Registered(Owner::Runtime)
}

/// Whether the kernel agrees with the state, and the CPU that is read is one of the kernel's. It may change between two
/// reads.
pub fn agree<K: Kernel>(
    state: State,
    known: Known,
    process: &Process<K>,
    area: &Area,
) -> Result<(), Fault> {
    match (state, known) {
        (State::Registered(Owner::Runtime), Known::This) => {
            let cpu = process.current_cpu(area);
            must(
                cpu.is_ok_and(|cpu| witness::cpus().has(cpu)),
                "the CPU read is not an allowed one",
            )
        }
        (State::Registered(_), _) => {
            Err("the state says registered, and the kernel does not know the area")
        }
        (_, Known::This) => Err(DENIED),
        _ => Ok(()),
    }
}

fn is_right_everywhere<K: Kernel>(process: &Process<K>, area: &Area, cpus: CpuSet) -> bool {
    let is_right = |cpu| {
        sched::allow(0, &CpuSet::one(cpu)).unwrap();
        process.current_cpu(area) == Ok(cpu)
    };
    let all = cpus.iter().all(is_right);
    sched::allow(0, &cpus).unwrap();
    all
}
