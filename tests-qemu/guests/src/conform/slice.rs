//! The time-slice extension of Linux 7.0, where available.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use super::Check;
use super::area::{Area, LEGACY, ask, pin};
use super::ids::STACK;
use super::repeat::Rounds;
use super::section::SIGNATURE;
use super::system::System;
use crate::errno::{Errno, errno};
use crate::harness::{forked, passed, skip};
use crate::sys::process::{Status, prctl};
use crate::sys::raw::syscall;
use crate::sys::sched;
use crate::sys::time::Span;
use crate::thread;

#[rustfmt::skip] // a table
pub(super) const CHECKS: &[Check] = &[
    Check::nuisance("slice/flags", "a registration with the flag for the extension shows it as available and enabled in the area's flags", flags),
    Check::nuisance("slice/prctl", "PR_RSEQ_SLICE_EXTENSION answers ENXIO without a registration, 524 with a legacy one, and reads what it has set", by_prctl),
    Check::nuisance("slice/grant", "a request is granted when the thread would be preempted, and revoked at the latest when it is; never are both bits set", grant),
];

/// linux/prctl.h of 7.0, which linux-raw-sys does not have.
const PR_RSEQ_SLICE_EXTENSION: u32 = 79;
const GET: usize = 1;
const SET: usize = 2;
const ENABLE: usize = 1;
const NR_RSEQ_SLICE_YIELD: u32 = 471;
/// Registration flag.
pub(super) const SLICE_ON: u32 = 2;
pub(super) const AVAILABLE: u32 = 1 << 4;
pub(super) const ENABLED: u32 = 1 << 5;
const REQUEST: u32 = 1;
const GRANTED: u32 = 1 << 8;

const NO_SUCH: Result<usize, Errno> = Err(Errno(errno::ENXIO));
const NOT_SUPPORTED: Result<usize, Errno> = Err(Errno(524));

fn slices(set: usize, what: usize) -> Result<usize, Errno> {
    // SAFETY: no pointer among the arguments.
    unsafe { prctl(PR_RSEQ_SLICE_EXTENSION, set, what, 0, 0) }
}

/// An area with the extension on; otherwise ends the check.
fn extended(system: &System<'_>) -> &'static Area {
    if system.fields() < 33 {
        skip!("the feature size is {}", system.fields());
    }
    let area = Area::new();
    let answer = ask(area.at(), system.length(), SLICE_ON, SIGNATURE);
    agree!(answer, Ok(()), "registration with flag 2");
    if area.flags.load(Relaxed) & AVAILABLE == 0 {
        skip!("this kernel has no slice extension, or it is switched off");
    }
    area
}

fn flags(system: &System<'_>) {
    let area = extended(system);
    let flags = area.flags.load(Relaxed);
    agree!(flags & ENABLED, ENABLED, "flags read {flags:#x}");
    agree!(slices(GET, 0), Ok(ENABLE), "and prctl says");
}

fn by_prctl(system: &System<'_>) {
    let status = forked(|| _ = extended(system));
    agree!(status, Ok(Status::Exited(0)), "the child");
    // The extension is available, or the child has reported why not.
    let probe = Area::new();
    if system.fields() < 33 {
        return;
    }
    agree!(probe.register(system.length()), Ok(()), "registration");
    if probe.flags.load(Relaxed) & AVAILABLE == 0 {
        return;
    }
    agree!(slices(GET, 0), Ok(0), "off at first");
    agree!(slices(SET, ENABLE), Ok(0), "switched on");
    agree!(slices(GET, 0), Ok(ENABLE), "read back");
    agree!(slices(SET, 0), Ok(0), "switched off");
    agree!(slices(GET, 0), Ok(0), "read back");
    agree!(probe.unregister(system.length()), Ok(()), "unregistration");
    agree!(slices(SET, ENABLE), NO_SUCH, "unregistered");
    agree!(probe.register(LEGACY), Ok(()), "registration of 32 bytes");
    agree!(slices(SET, ENABLE), NOT_SUPPORTED, "a legacy area");
}

fn grant(system: &System<'_>) {
    static OVER: AtomicBool = AtomicBool::new(false);
    static RAN: AtomicU32 = AtomicU32::new(0);
    fn competes(_: &()) {
        while !OVER.load(Relaxed) {
            RAN.fetch_add(1, Relaxed);
            // A sleeper that wakes competes for the CPU.
            let _ = crate::sys::time::sleep(Span::micros(200));
        }
    }
    let area = extended(system);
    pin(system.cpus.iter().next().unwrap());
    let other = thread::start(STACK, (), competes).unwrap();
    let mut rounds = Rounds::until(20, Span::secs(20));
    let mut in_time = 0;
    while rounds.next().is_some() {
        area.slice.store(REQUEST, Relaxed);
        for _ in 0..1 << 22 {
            let control = area.slice.load(Relaxed);
            assert_ne!(control, REQUEST | GRANTED, "request and grant at once");
            if control == GRANTED {
                rounds.seen += 1;
                // SAFETY: no pointer among the arguments.
                let answer = unsafe { syscall!(NR_RSEQ_SLICE_YIELD) };
                assert!(matches!(answer, Ok(0 | 1)), "the yield answers {answer:?}");
                in_time += u32::from(answer == Ok(1));
                break;
            }
            if control == 0 {
                break;
            }
        }
        area.slice.store(0, Relaxed);
        sched::relax();
    }
    OVER.store(true, Relaxed);
    other.join().unwrap();
    if rounds.seen != 0 {
        passed!("{} grants, {in_time} given back in time", rounds.seen);
    }
    rounds.conclude("a grant");
}
