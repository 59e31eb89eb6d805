//! A section that a tracer stops at each of its instructions by a breakpoint, and disturbs there.

use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU32, AtomicU64};
use linux_raw_sys::general::{SIGUSR1, siginfo_t};

use super::Check;
use super::area::pin;
use super::ids::registered;
use super::repeat::each_length;
use super::section::{ABORTED, DONE, SIGNATURE, Words, counter_of, stand_cs, stops};
use super::system::{Needs, System};
use crate::arch;
use crate::breakpoint::PLACES;
use crate::errno::{Errno, errno};
use crate::harness::{passed, skip};
use crate::signals;
use crate::stepper::{Stepper, stop};
use crate::sys::process::{Status, exit_group};
use crate::sys::sched::{self, CpuSet};
use crate::sys::{mm, ptrace};

#[rustfmt::skip] // a table
pub(super) const CHECKS: &[Check] = &[
    Check::dangerous("steps/stop", "a section that a tracer stops at any instruction up to its commit is aborted, and goes on behind it", by_stop).needs(Needs::Ptrace),
    Check::dangerous("steps/migration", "a section that is moved at any instruction up to its commit is aborted, and goes on behind it", by_migration).needs(Needs::PtraceAndTwoCpus),
    Check::dangerous("steps/signal", "a section that gets a signal at any instruction up to its commit is aborted before the handler runs, and goes on behind it", by_signal).needs(Needs::Ptrace),
    Check::dangerous("steps/single-step", "a section that is run by single steps never commits", single_step).needs(Needs::Ptrace),
    Check::nuisance("ptrace/configuration", "PTRACE_GET_RSEQ_CONFIGURATION shows the address, length and signature of the registration, and none before it", configuration).needs(Needs::Ptrace),
];

const ROUND: u32 = 77;

/// Shared by tracer and tracee.
struct Shared {
    words: Words,
    end: AtomicU32,
    /// rseq_cs afterwards.
    cs: AtomicU64,
    /// The program counter seen by the handler.
    place: AtomicU64,
}

impl Shared {
    fn new() -> &'static Self {
        let page = mm::map_shared(mm::page_size()).unwrap();
        // SAFETY: zeroed, never unmapped, and all zeroes is a valid value.
        unsafe { &*page.cast::<Self>() }
    }
}

/// The page of the handler.
static PAGE: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" fn note(_: i32, _: *mut siginfo_t, context: *mut u8) {
    let page = core::ptr::with_exposed_provenance::<Shared>(PAGE.load(Relaxed) as usize);
    // SAFETY: the page below; counter_of (1) the kernel's own context.
    unsafe { (*page).place.store(counter_of(context), Relaxed) };
}

/// A traced child that was released beforehand, and runs straight through the section once it continues.
#[track_caller]
fn tracee(shared: &'static Shared, length: u32, cpu: u32) -> Stepper {
    let body = || {
        ptrace::trace_me().unwrap();
        PAGE.store(
            core::ptr::from_ref(shared).expose_provenance() as u64,
            Relaxed,
        );
        // SAFETY: handle (1) the handler stores to the page.
        unsafe { signals::handle(SIGUSR1 as i32, note, 0) }.unwrap();
        pin(cpu);
        let area = registered(length);
        shared.words.go.store(ROUND, Relaxed);
        stop();
        let end = shared.words.stand(area, ROUND, 1000);
        shared.end.store(end as u32, Relaxed);
        shared.cs.store(area.cs.load(Relaxed), Relaxed);
        stop();
        exit_group(0);
    };
    // SAFETY: (1) a check has one thread.
    let child = unsafe { Stepper::start(body) }.unwrap();
    assert!(child.stands(), "the child: {}", child.status);
    child
}

/// A preemption also aborts a section, on its way to the breakpoint or from there.
const ATTEMPTS: u32 = 20;

/// Stops a child at each instruction, disturbs it with `act`, continues it with a signal or 0, and checks its end.
fn at_each(system: &System<'_>, signal: u32, act: impl Fn(&Stepper, u32)) {
    let all = stops();
    let (first, last) = (1, all.len() - 1);
    each_length(system, |length| {
        for (nth, place) in all.into_iter().enumerate() {
            let is_inside = (first..last).contains(&nth);
            let one = || stopped_at(system, length, place, signal, &act);
            let judged = (0..ATTEMPTS).any(|_| {
                let Some(shared) = one() else { return false };
                let end = shared.end.load(Relaxed) as usize;
                if nth == 0 && end == ABORTED {
                    return false;
                }
                let done = shared.words.done.load(Relaxed) == ROUND;
                let expected = if is_inside { (ABORTED, false) } else { (DONE, true) };
                agree!(
                    (end, done),
                    expected,
                    "stopped at instruction {nth} of a section of {first} to {}, length {length}: the end, and whether it has committed",
                    last - 1
                );
                if is_inside {
                    agree!(shared.cs.load(Relaxed), 0, "rseq_cs after the abort");
                }
                if is_inside && signal != 0 {
                    let place = shared.place.load(Relaxed);
                    agree!(place, stand_cs().abort_ip, "where the handler found it");
                }
                true
            });
            assert!(
                judged,
                "aborted by itself in each of {ATTEMPTS} attempts to stop it at instruction {nth}, length {length}"
            );
        }
    });
    passed!(
        "{} instructions, and one place before and behind",
        last - first
    );
}

/// A child stopped at `place`, disturbed, and continued to its end; `None` if it was aborted before `place`.
fn stopped_at(
    system: &System<'_>,
    length: u32,
    place: u64,
    signal: u32,
    act: &impl Fn(&Stepper, u32),
) -> Option<&'static Shared> {
    let [here, other] = [0, 1].map(|nth| system.cpus.iter().nth(nth).unwrap_or(0));
    let shared = Shared::new();
    let mut child = tracee(shared, length, here);
    let hit = child.run_to([place; PLACES]).unwrap();
    if hit {
        act(&child, other);
        child.run_with(signal as i32).unwrap();
    } else {
        agree!(
            shared.end.load(Relaxed) as usize,
            ABORTED,
            "not stopped at {place:#x}: its end"
        );
    }
    assert!(child.stands(), "the child: {}", child.status);
    child.run().unwrap();
    agree!(child.status, Status::Exited(0), "its end");
    hit.then_some(shared)
}

fn by_stop(system: &System<'_>) {
    at_each(system, 0, |_, _| {});
}

fn by_migration(system: &System<'_>) {
    at_each(system, 0, |child, other| {
        sched::allow(child.pid as u32, &CpuSet::one(other)).unwrap();
    });
}

fn by_signal(system: &System<'_>) {
    at_each(system, SIGUSR1, |_, _| {});
}

fn single_step(system: &System<'_>) {
    if !arch::CAN_STEP {
        skip!("this CPU has no single step");
    }
    let cpu = system.cpus.iter().next().unwrap();
    each_length(system, |length| {
        let shared = Shared::new();
        let mut child = tracee(shared, length, cpu);
        let going_on = child.step(10_000).unwrap();
        assert!(!going_on && child.stands(), "stepped: {}", child.status);
        let end = shared.end.load(Relaxed) as usize;
        let done = shared.words.done.load(Relaxed);
        agree!((end, done), (ABORTED, 0), "stepped, length {length}");
        child.run().unwrap();
        passed!("aborted in {} steps", child.steps);
    });
}

fn configuration(system: &System<'_>) {
    // The address is the same in the child, which is a copy.
    each_length(system, |length| {
        let area = super::area::Area::new();
        let body = || {
            ptrace::trace_me().unwrap();
            stop();
            area.register(length).unwrap();
            stop();
            exit_group(0);
        };
        // SAFETY: (1) a check has one thread.
        let mut child = unsafe { Stepper::start(body) }.unwrap();
        assert!(child.stands(), "the child: {}", child.status);
        let before = match ptrace::rseq_configuration(child.pid) {
            Err(Errno(errno::EIO)) => {
                let _ = child.run();
                let _ = child.run();
                skip!("not known here: it came with Linux 5.13");
            }
            before => before.unwrap().rseq_abi_pointer,
        };
        agree!(before, 0, "the address before any registration");
        child.run().unwrap();
        assert!(child.stands(), "the child: {}", child.status);
        let known = ptrace::rseq_configuration(child.pid).unwrap();
        let seen = (known.rseq_abi_pointer, known.rseq_abi_size, known.signature);
        agree!(
            seen,
            (area.at().addr() as u64, length, SIGNATURE),
            "address, length and signature"
        );
        child.run().unwrap();
    });
}
