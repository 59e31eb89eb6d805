//! What the handler does between two instructions of a hook: each legal thing, judged on the spot.

use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed};

use linux_raw_sys::general::siginfo_t;
use rseq_rt::{Area, Lent, Owner, Process, State, arch};

use super::case::{Act, Before, Case};
use super::fault::Fault;
use super::judge::{agree, is_ours};
use super::seam::{CALLBACKS, Seen};
use super::shared::shared;
use super::subject::Subject;
use crate::entry::Env;
use crate::harness::{forked, vforked};
use crate::hooks::children_exec;
use crate::sys::process::{Status, exit_group};
use crate::sys::rseq::rseq;
use crate::sys::sched;
use crate::witness::{self, Known};

/// What the handler finds: set in front of each case.
pub struct Scene {
    /// The child.
    pub subject: Subject,
    /// For exec.
    pub env: &'static Env,
}

/// The scene of this process.
pub static SCENE: AtomicPtr<Scene> = AtomicPtr::new(core::ptr::null_mut());
/// The case that runs, encoded.
pub static CASE: AtomicU32 = AtomicU32::new(u32::MAX);

/// The signal's handler.
pub unsafe extern "C" fn handler<K: Seen>(_: i32, _: *mut siginfo_t, _: *mut u8) {
    // SAFETY: set once, never freed.
    let scene = unsafe { SCENE.load(Relaxed).as_ref() };
    let (Some(scene), Some(case), Some(shared)) =
        (scene, Case::decode(CASE.load(Relaxed)), shared())
    else {
        return;
    };
    let fault = act::<K>(scene, case);
    if fault != Fault::None {
        // The first one counts.
        let none = Fault::None as u32;
        let _ = shared
            .fault
            .compare_exchange(none, fault as u32, Relaxed, Relaxed);
    }
    shared.acts.fetch_add(1, Relaxed);
}

fn act<K: Seen>(scene: &Scene, case: Case) -> Fault {
    let subject = &scene.subject;
    let (area, process) = (subject.area(), K::process().get());
    let before = area.state();
    let fault = match case.act {
        Act::Nothing => Fault::None,
        Act::Read => read(process, area),
        Act::Ensure => ensure(process, area, case, K::MASKS),
        Act::Push => {
            CALLBACKS.push();
            Fault::None
        }
        Act::Lend => lend(process, area),
        Act::Fork => match forked(|| fork_child::<K>(scene, case)) {
            Ok(Status::Exited(0)) => Fault::None,
            Ok(Status::Exited(code)) => Fault::of(code as u32).unwrap_or(Fault::ChildDied),
            _ => Fault::ChildDied,
        },
        Act::Vfork => vfork(process, scene, || {}),
        Act::Exec => vfork(process, scene, || children_exec::exec(scene.env)),
    };
    if fault != Fault::None {
        return fault;
    }
    let after = area.state();
    if !matches!(case.act, Act::Ensure) && before != after {
        return Fault::Loan;
    }
    if is_ours(area) {
        agree(after, subject.ask(), process, area)
    } else {
        Fault::None
    }
}

fn is_a_cpu<E>(cpu: Result<u32, E>) -> bool {
    cpu.is_ok_and(|cpu| witness::cpus().has(cpu))
}

fn read<K: Seen>(process: &Process<K>, area: &Area) -> Fault {
    if !is_a_cpu(process.current_cpu(area)) || sched::getcpu().is_err() {
        return Fault::Cpu;
    }
    let node = process.current_node(area);
    let mm_cid = process.current_mm_cid(area).unwrap_or(0);
    match node.is_ok_and(|node| node <= 0xffff) && mm_cid <= 0xffff {
        true => Fault::None,
        false => Fault::Node,
    }
}

fn ensure<K: Seen>(process: &Process<K>, area: &Area, case: Case, masks: bool) -> Fault {
    let before = area.state();
    // SAFETY: ensure_registered (1, 2) this thread's, ended by `Subject::run`.
    let ensured = unsafe { process.ensure_registered(area) };
    let after = area.state();
    let is_taken = matches!(case.before, Before::Taken | Before::KnownTaken);
    let is_disabled = case.before == Before::Disabled;
    // Somebody is at it, below this handler.
    let is_claimed = (!masks || case.is_sigsys) && !is_disabled;
    let legal = match (before, after) {
        (State::Unregistered, State::Registered(Owner::Runtime)) => !is_taken && !is_disabled,
        (State::Unregistered, State::Unavailable(_)) => is_taken || is_disabled,
        (State::Unregistered, State::Unregistered) => is_claimed,
        _ => before == after,
    };
    if !legal || ensured != Ok(after) {
        return Fault::Ensured;
    }
    read(process, area)
}

fn lend<K: Seen>(process: &Process<K>, area: &Area) -> Fault {
    let before = area.state();
    // SAFETY: Lent::of (1) this thread's only area.
    let lent = unsafe { Lent::of(area) };
    let during = during(process, area);
    lent.end();
    match area.state() == before {
        true => during,
        false => Fault::Loan,
    }
}

/// In parent and child: the area is out of use.
fn during<K: Seen>(process: &Process<K>, area: &Area) -> Fault {
    if !matches!(area.state(), State::Lent | State::Exiting) {
        return Fault::Loan;
    }
    // SAFETY: ensure_registered (1, 2) this thread's: it does nothing.
    let ensured = unsafe { process.ensure_registered(area) };
    match ensured {
        Ok(State::Lent | State::Exiting) => read(process, area),
        _ => Fault::LoanRegistered,
    }
}

fn fork_child<K: Seen>(scene: &Scene, case: Case) {
    let subject = &scene.subject;
    let (area, process) = (subject.area(), K::process().get());
    // A claim below this handler is nobody's here: whoever returns from the handler resolves it.
    let is_claimed = !K::MASKS || case.is_sigsys;
    let agrees = || match (area.state(), subject.ask()) {
        (State::Unregistered, Known::This) if is_claimed => Fault::None,
        // Kept, or about to be released.
        (State::Exiting, _) => Fault::None,
        (state, known) => agree(state, known, process, area),
    };
    let end = |fault: Fault, other: Fault| {
        if fault != Fault::None {
            exit_group(match fault {
                Fault::Cpu => Fault::ChildCpu,
                _ => other,
            } as i32);
        }
    };
    if area.state() != State::Lent {
        end(agrees(), Fault::Child);
    }
    // SAFETY: repair_in_fork_child (1) this thread's; (2) a fork child; (3) it exits below.
    let state = unsafe { process.repair_in_fork_child(area) };
    if state == State::Lent || state != area.state() {
        exit_group(Fault::Child as i32);
    }
    end(agrees(), Fault::Child);
    end(read(process, area), Fault::ChildCpu);
    // SAFETY: ensure_registered (1, 2) this thread's, to the end of the process.
    let ensured = unsafe { process.ensure_registered(area) };
    if ensured != Ok(area.state()) {
        exit_group(Fault::Child as i32);
    }
    end(agrees(), Fault::Child);
    end(read(process, area), Fault::ChildCpu);
}

fn vfork<K: Seen>(process: &Process<K>, scene: &Scene, last: impl FnOnce()) -> Fault {
    let area = scene.subject.area();
    let before = area.state();
    let is_exec = Case::decode(CASE.load(Relaxed)).is_some_and(|case| case.act == Act::Exec);
    // SAFETY: Lent::of (1) this thread's only area.
    let lent = unsafe { Lent::of(area) };
    let ended = vforked(scene.subject.stack, || {
        let fault = during(process, area);
        if fault != Fault::None {
            exit_group(fault as i32);
        }
        if !is_unregistered() {
            exit_group(Fault::Vforked as i32);
        }
        last();
    });
    lent.end();
    let fault = match ended {
        Ok(Status::Exited(children_exec::FRESH)) if is_exec => Fault::None,
        Ok(Status::Exited(0)) if !is_exec => Fault::None,
        Ok(Status::Exited(_)) if is_exec => Fault::Executed,
        Ok(Status::Exited(code)) => Fault::of(code as u32).unwrap_or(Fault::Vforked),
        _ => Fault::ChildDied,
    };
    match area.state() == before {
        true => fault,
        false => Fault::Loan,
    }
}

/// By a scratch area: one that is shared would be overwritten.
fn is_unregistered() -> bool {
    let scratch = Area::new();
    let at = (&raw const scratch).cast_mut().cast();
    // SAFETY: (1) undone at once; (2) success means that there was nobody.
    unsafe { rseq(at, 32, 0, arch::SIGNATURE).is_ok() && rseq(at, 32, 1, arch::SIGNATURE).is_ok() }
}
