//! The handler between two instructions of a hook: it makes one legal call, and checks it on the spot.

use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use linux_raw_sys::general::siginfo_t;
use rseq_rt::{Area, Lent, Owner, Process, State};

use super::case::{Act, Before, Case};
use super::judge::{agree, is_ours};
use super::seam::{Seam, push_callback};
use super::shared::{Fault, must, shared};
use super::subject::Subject;
use super::{slice, sweep};
use crate::entry::Env;
use crate::errno::Errno;
use crate::harness::{forked, vforked};
use crate::hooks::children::exec;
use crate::hooks::common::Hooks as _;
use crate::sys::process::{Status, exit_group};
use crate::sys::sched;
use crate::witness::{self, Known};

/// The environment of the handler, which takes no argument.
pub struct Scene {
    pub subject: Subject,
    /// For exec.
    pub env: &'static Env,
}

pub static SCENE: AtomicPtr<Scene> = AtomicPtr::new(core::ptr::null_mut());

pub unsafe extern "C" fn handler<K: Seam>(_: i32, _: *mut siginfo_t, _: *mut u8) {
    // SAFETY: set once, never freed.
    let scene = unsafe { SCENE.load(Relaxed).as_ref() }.unwrap();
    let shared = shared();
    shared.note(act::<K>(scene, shared.case.get().unwrap()));
    shared.acts.set(shared.acts.get() + 1);
}

const LOAN: Fault = "a loan: the state is not Lent, or not the one from before after its end";
const CPU: Fault = "a CPU that cannot be";

fn act<K: Seam>(scene: &Scene, case: Case) -> Result<(), Fault> {
    let subject = &scene.subject;
    let (area, process) = (subject.area(), K::process().get());
    let before = area.state();
    match case.act {
        Act::Nothing => {}
        Act::Read => read(process, area)?,
        Act::Ensure => ensure(process, area, case)?,
        Act::Push => push_callback(),
        Act::Lend => lend(process, area)?,
        Act::Fork => {
            let ended = forked(|| end_child(fork_child::<K>(scene, case)));
            must_end(ended, 0)?;
        }
        Act::Vfork => vfork(process, scene, 0, || {})?,
        Act::Exec => vfork(process, scene, exec::FRESH, || exec::exec(scene.env))?,
        Act::Slice => slice::request_inside(area)?,
        Act::Grant => slice::grant(area),
        Act::Sweep => sweep::in_handler(),
    }
    let after = area.state();
    must(case.act == Act::Ensure || before == after, LOAN)?;
    match is_ours(area) {
        true => agree(after, subject.ask(), process, area),
        false => Ok(()),
    }
}

fn read<K: Seam>(process: &Process<K>, area: &Area) -> Result<(), Fault> {
    let cpu = process.current_cpu(area);
    must(cpu.is_ok_and(|cpu| witness::cpus().has(cpu)), CPU)?;
    must(sched::getcpu().is_ok(), CPU)?;
    let node = process.current_node(area);
    let mm_cid = process.current_mm_cid(area).unwrap_or(0);
    let is_small = node.is_ok_and(|node| node <= 0xffff) && mm_cid <= 0xffff;
    must(is_small, "a node that cannot be")
}

fn ensure<K: Seam>(process: &Process<K>, area: &Area, case: Case) -> Result<(), Fault> {
    let before = area.state();
    let ensured = process.ensure(area);
    let after = area.state();
    let is_disabled = case.before == Before::Disabled;
    let is_refused = case.is_taken() || is_disabled;
    // Claimed by the code that this handler interrupts.
    let is_claimed = (!K::MASKS || case.is_sigsys) && !is_disabled;
    let is_legal = match (before, after) {
        (State::Unregistered, State::Registered(Owner::Runtime)) => !is_refused,
        (State::Unregistered, State::Unavailable(_)) => is_refused,
        (State::Unregistered, State::Unregistered) => is_claimed,
        _ => before == after,
    };
    must(is_legal, "ensure_registered: an illegal change of state")?;
    must(ensured == Ok(after), "ensure_registered: not the state")?;
    read(process, area)
}

fn lend<K: Seam>(process: &Process<K>, area: &Area) -> Result<(), Fault> {
    let before = area.state();
    // SAFETY: Lent::of (1) this thread's only area.
    let lent = unsafe { Lent::of(area) };
    let during = during(process, area);
    lent.end();
    must(area.state() == before, LOAN)?;
    during
}

/// In parent and child: the area is disabled.
fn during<K: Seam>(process: &Process<K>, area: &Area) -> Result<(), Fault> {
    let is_out = |state| matches!(state, State::Lent | State::Exiting);
    must(is_out(area.state()), LOAN)?;
    let ensured = process.ensure(area);
    must(ensured.is_ok_and(is_out), "registered during a loan")?;
    read(process, area)
}

/// The end of a child that shares the fault record.
fn end_child(outcome: Result<(), Fault>) {
    if outcome.is_err() {
        shared().note(outcome);
        exit_group(1);
    }
}

fn must_end(ended: Result<Status, Errno>, code: i32) -> Result<(), Fault> {
    must(ended == Ok(Status::Exited(code)), "the end of a child")
}

fn fork_child<K: Seam>(scene: &Scene, case: Case) -> Result<(), Fault> {
    let subject = &scene.subject;
    let (area, process) = (subject.area(), K::process().get());
    // A claim of the interrupted code: the returning thread resolves it.
    let is_claimed = !K::MASKS || case.is_sigsys;
    let agrees = || match (area.state(), subject.ask()) {
        (State::Unregistered, Known::This) if is_claimed => Ok(()),
        // Kept, or about to be released.
        (State::Exiting, _) => Ok(()),
        (state, known) => agree(state, known, process, area),
    };
    if area.state() != State::Lent {
        agrees()?;
    }
    // SAFETY: repair_in_fork_child (1) this thread's; (2) a fork child; (3) it exits below.
    let state = unsafe { process.repair_in_fork_child(area) };
    let is_repaired = state != State::Lent && state == area.state();
    must(is_repaired, "a fork child: still lent after its repair")?;
    agrees()?;
    read(process, area)?;
    let ensured = process.ensure(area);
    must(
        ensured == Ok(area.state()),
        "a fork child: ensure_registered",
    )?;
    agrees()?;
    read(process, area)
}

fn vfork<K: Seam>(
    process: &Process<K>,
    scene: &Scene,
    code: i32,
    last: impl FnOnce(),
) -> Result<(), Fault> {
    let area = scene.subject.area();
    let before = area.state();
    // SAFETY: Lent::of (1) this thread's only area.
    let lent = unsafe { Lent::of(area) };
    let ended = vforked(scene.subject.stack, || {
        end_child(during(process, area).and_then(|()| {
            must(
                witness::is_unregistered(),
                "a vfork child: it is registered",
            )
        }));
        last();
    });
    lent.end();
    must_end(ended, code)?;
    must(area.state() == before, LOAN)
}
