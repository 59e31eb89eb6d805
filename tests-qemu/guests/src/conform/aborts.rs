//! Causes that abort a section: a migration, a preemption, a signal. A thread spins in a section until it is released.
//! The releaser has run on its CPU, has moved it, or is its signal handler: a section that is released and still
//! commits was certainly not aborted.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use linux_raw_sys::general::{SIGUSR1, siginfo_t};

use super::Check;
use super::area::{Area, pin};
use super::ids::{STACK, registered};
use super::repeat::{Rounds, each_length};
use super::section::{ABORTED, DONE, Words, counter_of, stand_cs};
use super::system::{Needs, System};
use crate::signals::{self, Timer};
use crate::sys::process;
use crate::sys::sched::{self, CpuSet};
use crate::sys::time::Span;
use crate::thread::{self, Joinable};

#[rustfmt::skip] // a table
pub(super) const CHECKS: &[Check] = &[
    Check::dangerous("abort/migration", "a section is aborted when its thread is moved to another CPU, and never commits there", migration).needs(Needs::TwoCpus),
    Check::dangerous("abort/preemption", "a section is aborted when another thread has run on its CPU", preemption),
    Check::dangerous("abort/signal", "a section is aborted before a signal handler of its thread runs, which sees the abort handler as the place of the interruption", signal),
    Check::nuisance("abort/cleared", "rseq_cs is 0 after an abort", cleared),
    Check::dangerous("abort/outside", "a thread that is interrupted outside of the section that it has announced goes on where it was", outside),
];

/// Iterations of the section, many times a time slice.
pub(super) const TURNS: usize = 1 << 26;
const LIMIT: Span = Span::secs(20);

pub(super) static WORDS: Words = Words::new();
static OVER: AtomicBool = AtomicBool::new(false);

/// A thread that releases another one, after acting on it.
pub(super) struct Helper {
    pub what: &'static str,
    /// The CPU on which the thread starts, and the helper's own.
    pub cpus: [u32; 2],
    /// Acts on the thread in each round; the argument is the number of rounds before.
    pub act: fn(&Helper, usize),
    pub tid: u32,
}

impl Helper {
    fn run(&self) {
        pin(self.cpus[1]);
        let (mut last, mut rounds) = (0, 0);
        while !OVER.load(Relaxed) {
            let here = WORDS.here.load(Acquire);
            if here != last {
                last = here;
                (self.act)(self, rounds);
                WORDS.go.store(here, Release);
                rounds += 1;
            }
            sched::relax();
        }
    }
}

/// The calling thread enters the section repeatedly while a helper acts; an abort counts if `counts` agrees, given the
/// CPU before it.
pub(super) fn stands(length: u32, helper: Helper, counts: impl Fn(u32) -> bool) {
    let what = helper.what;
    pin(helper.cpus[0]);
    let area = registered(length);
    let helper: Joinable<Helper> = thread::start(STACK, helper, Helper::run).unwrap();
    let mut rounds = Rounds::until(10, LIMIT);
    while let Some(round) = rounds.next() {
        let before = area.cpu_id.load(Relaxed);
        let end = WORDS.stand(area, round, TURNS);
        judge(end, round, length, what);
        if end == ABORTED && counts(before) {
            rounds.seen += 1;
        }
    }
    OVER.store(true, Relaxed);
    helper.join().unwrap();
    rounds.conclude(what);
}

#[track_caller]
fn judge(end: usize, round: u32, length: u32, what: &str) {
    assert!(
        end != DONE && WORDS.done.load(Relaxed) != round,
        "the section of an area of {length} bytes has committed after {what}"
    );
}

/// The first two CPUs, or the first one twice.
pub(super) fn two(system: &System<'_>) -> [u32; 2] {
    let first = system.cpus.iter().next().unwrap();
    [first, system.cpus.iter().nth(1).unwrap_or(first)]
}

fn migration(system: &System<'_>) {
    // In the previous round it was on the other one.
    fn moves(helper: &Helper, round: usize) {
        let cpu = helper.cpus[(round + 1) % 2];
        sched::allow(helper.tid, &CpuSet::one(cpu)).unwrap();
    }
    each_length(system, |length| {
        let helper = Helper {
            what: "a migration",
            cpus: two(system),
            act: moves,
            tid: process::gettid(),
        };
        let moved = |before| sched::getcpu().unwrap().0 != before;
        stands(length, helper, moved);
    });
}

fn preemption(system: &System<'_>) {
    each_length(system, |length| {
        let helper = Helper {
            what: "a preemption",
            // The releaser has run on the thread's CPU.
            cpus: [two(system)[0]; 2],
            act: |_, _| {},
            tid: 0,
        };
        stands(length, helper, |_| true);
    });
}

/// The program counter seen by the last handler.
static PLACE: AtomicU64 = AtomicU64::new(0);
static HANDLED: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" fn note(_: i32, _: *mut siginfo_t, context: *mut u8) {
    // SAFETY: counter_of (1) the kernel's own context.
    PLACE.store(unsafe { counter_of(context) }, Relaxed);
    HANDLED.fetch_add(1, Relaxed);
    WORDS.release();
}

/// A signal to this thread every millisecond.
pub(super) fn under_signals() -> Timer {
    // SAFETY: handle (1) the handler stores to statics.
    unsafe { signals::handle(SIGUSR1 as i32, note, 0) }.unwrap();
    Timer::every(Span::millis(1), process::gettid(), SIGUSR1 as i32).unwrap()
}

fn signal(system: &System<'_>) {
    each_length(system, |length| {
        let area = registered(length);
        let timer = under_signals();
        let mut rounds = Rounds::until(50, LIMIT);
        while let Some(round) = rounds.next() {
            let before = HANDLED.load(Relaxed);
            let end = WORDS.stand(area, round, TURNS);
            judge(end, round, length, "a signal");
            if end == ABORTED && HANDLED.load(Relaxed) != before {
                let (cs, place) = (stand_cs(), PLACE.load(Relaxed));
                let inside = place.wrapping_sub(cs.start_ip) < cs.post_commit_offset;
                assert!(!inside, "the handler saw the section at {place:#x}");
                if place == cs.abort_ip {
                    rounds.seen += 1;
                }
            }
        }
        drop(timer);
        rounds.conclude("a signal");
    });
}

fn cleared(system: &System<'_>) {
    each_length(system, |length| {
        let area = registered(length);
        let timer = under_signals();
        let mut rounds = Rounds::until(10, Span::secs(5));
        while let Some(round) = rounds.next() {
            if WORDS.stand(area, round, TURNS) == ABORTED {
                agree!(area.cs.load(Relaxed), 0, "rseq_cs, length {length}");
                rounds.seen += 1;
            }
        }
        drop(timer);
        rounds.conclude("an abort");
    });
}

fn outside(system: &System<'_>) {
    each_length(system, |length| {
        let area: &Area = registered(length);
        let timer = under_signals();
        let mut rounds = Rounds::until(50, LIMIT);
        while rounds.next().is_some() {
            // After the section: announced, and left by its commit.
            let round = rounds.tried;
            WORDS.go.store(round, Relaxed);
            let end = WORDS.stand(area, round, TURNS);
            if end == ABORTED {
                continue;
            }
            agree!(WORDS.done.load(Relaxed), round, "it has not committed");
            area.cs.store(
                core::ptr::from_ref(stand_cs()).expose_provenance() as u64,
                Relaxed,
            );
            let before = HANDLED.load(Relaxed);
            while HANDLED.load(Relaxed) == before {
                core::hint::spin_loop();
            }
            let (cs, place) = (stand_cs(), PLACE.load(Relaxed));
            assert_ne!(place, cs.abort_ip, "sent to the abort handler");
            rounds.seen += 1;
        }
        drop(timer);
        rounds.conclude("a signal outside of the section");
    });
}
