//! Sections under a tracer: stopped after every instruction; or stopped at one instruction and then moved to another
//! CPU or given a signal.

use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};

use linux_raw_sys::general::{SIGUSR1, SIGUSR2, siginfo_t};
use rseq_rt::Area;
use rseq_rt::percpu::{Commit, CpuId, Current, Index, Miss, MmCid, SectionSupport};

use super::single::{End, OPS, once};
use super::slot::{self, Node};
use crate::harness::{Ctx, Needs, Test, passed, skip};
use crate::hooked::RSEQ;
use crate::hooks::common::Hooks as _;
use crate::signals;
use crate::stepper::{Stepper, stop};
use crate::sys::process::{self, Status, exit_group};
use crate::sys::ptrace;
use crate::sys::sched;
use crate::witness;

pub const TESTS: &[Test] = &[
    Test::new("percpu/single-stepped", stepped::<Eight>).needs(Needs::RSEQ.and(Needs::PTRACE)),
    Test::new("percpu/moved-at-each-instruction", |ctx| {
        each_depth::<Eight>(ctx, Disturb::Move)
    })
    .needs(Needs::RSEQ.and(Needs::PTRACE).cpus(2))
    // Steps by breakpoints are slow on an emulated CPU.
    .limit(1200),
    Test::new("percpu/signalled-at-each-instruction", |ctx| {
        each_depth::<Eight>(ctx, Disturb::Signal)
    })
    .needs(Needs::RSEQ.and(Needs::PTRACE))
    .limit(1200),
];

const ALL_RIGHT: i32 = 7;
/// Plus the number of the section: its result and its effect disagree.
const WRONG: i32 = 20;

/// The signals of [`Disturb::Signal`]: in a section, and elsewhere.
pub const SIGNALS: [i32; 2] = [SIGUSR1 as i32, SIGUSR2 as i32];

/// The disturbance at the instruction that a section was stepped to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Disturb {
    /// Moves to another CPU.
    Move,
    /// Sends one of [`SIGNALS`].
    Signal,
}

/// The sections that a child runs, one after the other.
pub trait Program {
    const SECTIONS: usize;
    /// Greater than the number of instructions of the longest section, aborted once and retried, between the stops
    /// before and after it.
    const REACH: u32;
    /// The short form tries one in so many depths of each section; without a common divisor, so that some section
    /// covers each depth.
    const STRIDE: u32;

    const SLOTS: usize;
    /// Whether every try disturbed by a signal is a single one, rather than every other.
    const SINGLE: bool;

    /// Called first in the child. Its handler of [`SIGNALS`] calls [`note`].
    fn begin<I: Index>();

    /// A number that every commit in that slot changes.
    fn held(slot: usize) -> usize;

    /// Runs the `nth` section with its setup; `around` is called just before it and just after it.
    fn once<I: Index>(nth: usize, current: Current<'_, I>, commit: Commit, around: fn()) -> End;
}

/// The operations of the crate.
pub enum Eight {}

impl Program for Eight {
    const SECTIONS: usize = OPS;
    const REACH: u32 = 110;
    const STRIDE: u32 = 13;
    const SLOTS: usize = 8;
    const SINGLE: bool = true;

    fn begin<I: Index>() {
        unsafe extern "C" fn handler(signal: i32, _: *mut siginfo_t, _: *mut u8) {
            note::<Eight>(signal);
        }
        for signal in SIGNALS {
            // SAFETY: handle (1) only atomics.
            unsafe { signals::handle(signal, handler, 0) }.unwrap();
        }
        slot::clear();
    }

    fn held(slot: usize) -> usize {
        let slot = slot::all().nth(slot).unwrap();
        let head = slot.head.load(Relaxed).addr();
        let sums = slot.word.load(Relaxed).wrapping_add(slot.far.load(Relaxed));
        sums.wrapping_add(head)
    }

    fn once<I: Index>(nth: usize, current: Current<'_, I>, commit: Commit, around: fn()) -> End {
        static NODE: Node = Node::new();
        let Some(slots) = slot::few::<I>() else {
            return End::Wrong;
        };
        // Provides a node for the pop.
        if nth == 6 {
            let push = || once(5, current, slots, commit, &NODE, || {});
            while !matches!(push(), End::Done | End::Missed(Miss::OutOfRange)) {
                slot::clear();
            }
        }
        let end = once(nth, current, slots, commit, &NODE, around);
        if nth >= 5 {
            slot::clear();
        }
        end
    }
}

/// Limits a run to one section by one kind of index, for a mutant of it. Called before a test, in its process.
pub fn focus(index: usize, section: usize) {
    FOCUS.store(1 + (index << 8 | section), Relaxed);
}

/// Whether each round is a single try.
static SINGLE: AtomicBool = AtomicBool::new(false);

static FOCUS: AtomicUsize = AtomicUsize::new(0);

fn focused() -> Option<(usize, usize)> {
    let focus = FOCUS.load(Relaxed).checked_sub(1)?;
    Some((focus >> 8, focus & 0xff))
}

/// The sum of all slots before the section, once noted, and whether the signal inside of it found the same.
static BEFORE: AtomicUsize = AtomicUsize::new(0);
static NOTED: AtomicBool = AtomicBool::new(false);
static UNCOMMITTED: AtomicBool = AtomicBool::new(false);

fn all<P: Program>() -> usize {
    (0..P::SLOTS).fold(0, |sum, slot| sum.wrapping_add(P::held(slot)))
}

/// Called by a program's handler.
pub fn note<P: Program>(signal: i32) {
    let [inside, _] = SIGNALS;
    let uncommitted = signal == inside && all::<P>() == BEFORE.load(Relaxed);
    UNCOMMITTED.store(uncommitted, Relaxed);
}

pub static AREA: Area = Area::new();

/// How often a child runs each section; 0: once, and whatever comes of it.
static ROUNDS: AtomicU32 = AtomicU32::new(0);

/// A child that runs all sections of a program, with a stop before the section and one after it.
fn child<P: Program, I: Index>() -> ! {
    let rounds = ROUNDS.load(Relaxed);
    process::no_core_dump();
    P::begin::<I>();
    // Before any step: deciding for the process is a compare-and-swap.
    let _ = RSEQ.create(&AREA).unwrap();
    let current = RSEQ.current_of::<I>(&AREA).unwrap();
    ptrace::trace_me().unwrap();
    let mut aborted = 0;
    let sections = sections::<P>();
    for commit in [Commit::Relaxed, Commit::Release] {
        for nth in sections.clone() {
            for round in 0..rounds.max(1) {
                // Of many rounds every other one is a single try, so that an abort shows.
                let single = rounds > 1 && (SINGLE.load(Relaxed) || round % 2 == 1);
                let current = match single {
                    true => current.restarts(0),
                    false => current,
                };
                NOTED.store(false, Relaxed);
                UNCOMMITTED.store(false, Relaxed);
                let around = || {
                    // After the section every instruction is a step.
                    if !NOTED.load(Relaxed) {
                        NOTED.store(true, Relaxed);
                        BEFORE.store(all::<P>(), Relaxed);
                    }
                    stop();
                };
                match P::once(nth, current, commit, around) {
                    // Not a panic: a broken program is expected to end like this.
                    End::Wrong => exit_group(WRONG + nth as i32),
                    // A single try that got a signal before its commit.
                    End::Done if single && UNCOMMITTED.load(Relaxed) => {
                        exit_group(WRONG + nth as i32)
                    }
                    // Aborted once, and by chance perhaps once more: not up to the bound.
                    End::Missed(Miss::Aborted) if rounds > 1 && !single => {
                        exit_group(WRONG + nth as i32)
                    }
                    End::Missed(Miss::Aborted) => aborted += 1,
                    _ => {}
                }
            }
        }
    }
    let enough = match rounds {
        0 => 0,
        // Each section is stepped all the way, and has no try that is not.
        1 => 2 * sections.len(),
        _ => 1,
    };
    assert!(aborted >= enough, "{aborted} tries were aborted");
    exit_group(ALL_RIGHT)
}

pub fn sections<P: Program>() -> Range<usize> {
    match focused() {
        Some((_, section)) => section..section + 1,
        None => 0..P::SECTIONS,
    }
}

fn begin(ctx: &Ctx<'_>) -> bool {
    super::init(ctx);
    RSEQ.section_support() == SectionSupport::Allowed
}

/// The kinds of index under test, among those that this kernel has.
fn indices(ctx: &Ctx<'_>) -> Range<usize> {
    match focused() {
        Some((index, _)) => index..index + 1,
        None if ctx.facts.feature_size >= 28 => 0..2,
        None => 0..1,
    }
}

/// More than any section has up to the bound of its restarts.
const STEPS: u32 = 2_000;

/// A stop after every instruction: every section is aborted up to the bound, and reports that.
pub fn stepped<P: Program>(ctx: &Ctx<'_>) {
    if !begin(ctx) {
        skip!("this kernel may run no sections");
    }
    let cpu = witness::cpus().iter().next().unwrap();
    let (mut steps, mut sections) = (0, 0u32);
    for nth in indices(ctx) {
        let mut child = start::<P>(nth, 1);
        child.move_with_tracer(cpu).unwrap();
        while child.stands() {
            let goes_on = child.step(STEPS).unwrap();
            assert!(!goes_on, "more than {STEPS} steps");
            sections += 1;
            if child.stands() {
                child.run().unwrap();
            }
        }
        all_right(child.status, format_args!("after {} steps", child.steps));
        steps += child.steps;
    }
    passed!("{steps} steps, {sections} operations, which all came to their end");
}

/// Fails, in the words of somebody whose section it is, unless the child has ended with all sections right.
fn all_right(status: Status, when: core::fmt::Arguments<'_>) {
    match status {
        Status::Exited(ALL_RIGHT) => {}
        Status::Exited(code) if code >= WRONG => {
            let nth = code - WRONG;
            panic!(
                "section {nth}: its result and what is stored disagree, or something is half done, {when}"
            )
        }
        status => panic!("the program with the sections {status}, {when}"),
    }
}

/// A child by the `nth` index.
fn start<P: Program>(nth: usize, rounds: u32) -> Stepper {
    ROUNDS.store(rounds, Relaxed);
    let body: fn() -> ! = match nth {
        0 => child::<P, CpuId>,
        _ => child::<P, MmCid>,
    };
    // SAFETY: start (1) the test is a process of its own.
    unsafe { Stepper::start(body) }.unwrap()
}

/// Instructions of the longest section, from the stop before it to the stop behind it, and a few more; an odd number, so
/// that each depth's rounds are of one kind. At most [`Program::REACH`].
fn length<P: Program>(nth: usize) -> u32 {
    let mut child = start::<P>(nth, 0);
    let mut longest = 0;
    while child.stands() {
        let before = child.steps;
        child.step_through(P::REACH).unwrap();
        longest = longest.max(child.steps - before);
        // Further to the stop behind the section, and to the next section's.
        if child.is_trapped() {
            child.run().unwrap();
        }
        if child.stands() {
            child.run().unwrap();
        }
    }
    P::REACH.min((longest as u32 + 3) | 1)
}

/// A stride that makes about `rounds` of `reach`, and comes to every depth in the end.
fn spread(reach: u32, rounds: u32) -> u32 {
    let common = |mut a: u32, mut b: u32| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let mut stride = (reach / rounds).max(1);
    while common(reach, stride) != 1 {
        stride += 1;
    }
    stride
}

/// Stopped after so many instructions, and disturbed: the operation ends right, wherever that was.
pub fn each_depth<P: Program>(ctx: &Ctx<'_>, disturb: Disturb) {
    if !begin(ctx) {
        skip!("this kernel may run no sections");
    }
    let (mut steps, mut count) = (0, 0);
    for nth in indices(ctx) {
        let (child, disturbed) = disturbed::<P>(ctx, disturb, nth);
        all_right(child.status, format_args!("disturbed {disturbed} times"));
        steps += child.steps;
        count += disturbed;
    }
    let name = match disturb {
        Disturb::Move => "moves",
        Disturb::Signal => "signals",
    };
    passed!("{count} {name}, each after another instruction, {steps} steps");
}

/// A program whose first section is broken is detected under this disturbance.
pub fn broken<P: Program>(ctx: &Ctx<'_>, disturb: Disturb) {
    if !begin(ctx) {
        skip!("this kernel may run no sections");
    }
    let (child, disturbed) = disturbed::<P>(ctx, disturb, 0);
    let end = Status::Exited(WRONG);
    assert_eq!(
        child.status, end,
        "a broken section, disturbed {disturbed} times"
    );
    passed!("found by disturbance {disturbed}");
}

/// Runs all rounds by the `nth` index, each round stopped some instructions later than the last one. Returns the ended
/// child, and how often it was disturbed.
fn disturbed<P: Program>(ctx: &Ctx<'_>, disturb: Disturb, nth: usize) -> (Stepper, u64) {
    let cpus = witness::cpus();
    SINGLE.store(P::SINGLE && disturb == Disturb::Signal, Relaxed);
    let stride = ctx.scale(1, P::STRIDE.into(), P::STRIDE.into()) as u32;
    // Of one section each depth that it has; of all of them those that fall to each, and in the short form no depth beyond
    // the longest, so that short sections are disturbed too.
    let (reach, stride) = match focused() {
        Some(_) => (length::<P>(nth), 1),
        None if stride != 1 => {
            let reach = length::<P>(nth);
            (reach, spread(reach, P::REACH / P::STRIDE))
        }
        None => (P::REACH, stride),
    };
    let mut child = start::<P>(nth, reach / stride);
    let first = cpus.iter().next().unwrap();
    child.move_with_tracer(first).unwrap();
    let (mut depth, mut count) = (nth as u32, 0);
    let mut to = core::iter::repeat(()).flat_map(|()| cpus.iter());
    while child.stands() {
        if child.step_through(depth).unwrap() {
            let over = stride == 1 && depth + 1 == P::REACH && reach == P::REACH;
            assert!(!over, "an operation is longer than {}", P::REACH);
            count += 1;
            match disturb {
                Disturb::Move => {
                    if let Some(cpu) = to.next() {
                        child.move_with_tracer(cpu).unwrap();
                    }
                    child.run().unwrap();
                }
                Disturb::Signal => {
                    let [inside, elsewhere] = SIGNALS;
                    // The descriptor's end may be before the commit.
                    let is_inside = child.is_inside(16).unwrap();
                    let signal = if is_inside { inside } else { elsewhere };
                    child.run_with(signal).unwrap();
                }
            }
        }
        // The stop after the section.
        if child.stands() {
            child.run().unwrap();
        }
        depth = (depth + stride) % reach;
    }
    sched::allow(0, &cpus).unwrap();
    (child, count)
}
