//! Under a tracer: stopped after every instruction, and stopped at one instruction and moved to another CPU, or given a
//! signal.

use linux_raw_sys::general::SIGUSR1;
use rseq_rt::Area;
use rseq_rt::percpu::{Commit, CpuId, Current, Index, Miss, MmCid, SectionSupport};

use super::single::{End, OPS, once};
use super::slot::{self, Node};
use crate::harness::{Ctx, Needs, Test, passed, skip};
use crate::hooked::RSEQ;
use crate::stepper::{Stepper, stop};
use crate::sys::process::{self, Status, exit_group};
use crate::sys::ptrace;
use crate::sys::sched::{self, CpuSet};
use crate::witness;

pub const TESTS: &[Test] = &[
    Test::new("percpu/single-stepped", stepped::<Eight>).needs(Needs::RSEQ.and(Needs::PTRACE)),
    Test::new("percpu/moved-at-each-instruction", |ctx| {
        each_depth::<Eight>(ctx, Disturb::Move)
    })
    .needs(Needs::RSEQ.and(Needs::PTRACE).cpus(2))
    // Steps by breakpoints, on an emulated CPU, take their time.
    .limit(1200),
];

const ALL_RIGHT: i32 = 7;
/// Plus the number of the section: it said one thing and did another.
const WRONG: i32 = 20;

/// The signal of [`Disturb::Signal`].
pub const SIGNAL: i32 = SIGUSR1 as i32;

/// What happens at the instruction that a section was stepped to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Disturb {
    /// Another CPU.
    Move,
    /// [`SIGNAL`].
    Signal,
}

/// The sections that a child runs, one after the other.
pub trait Program {
    /// How many there are.
    const SECTIONS: usize;
    /// More instructions than the longest one, once aborted and tried again, from the stop before it to the stop behind
    /// it.
    const REACH: u32;
    /// In the short form each so many depths, of each section; without a common divisor, so that each depth is some
    /// section's.
    const STRIDE: u32;

    /// In the child, first.
    fn begin<I: Index>();

    /// The `nth` section with all that it needs; `around` is called just before it and just after it.
    fn once<I: Index>(nth: usize, current: Current<'_, I>, commit: Commit, around: fn()) -> End;
}

/// The operations of the crate.
enum Eight {}

impl Program for Eight {
    const SECTIONS: usize = OPS;
    const REACH: u32 = 110;
    const STRIDE: u32 = 13;

    fn begin<I: Index>() {
        slot::clear();
    }

    fn once<I: Index>(nth: usize, current: Current<'_, I>, commit: Commit, around: fn()) -> End {
        static NODE: Node = Node::new();
        let Some(slots) = slot::few::<I>() else {
            return End::Wrong;
        };
        // For the pop, something to pop.
        while nth == 6 && once(5, current, slots, commit, &NODE, || {}) != End::Done {
            slot::clear();
        }
        let end = once(nth, current, slots, commit, &NODE, around);
        if nth >= 5 {
            slot::clear();
        }
        end
    }
}

/// The area of the child.
pub static AREA: Area = Area::new();

/// A child that runs all sections of a program, each `rounds` times, with a stop before the section and one after it.
fn child<P: Program, I: Index>(rounds: u32) -> ! {
    process::no_core_dump();
    P::begin::<I>();
    // Before any step: deciding for the process is a compare-and-swap.
    // SAFETY: (1, 2, 3) the only thread's, static.
    let _ = unsafe { RSEQ.on_thread_create(&AREA) }.unwrap();
    // SAFETY: (1) its own; (2) no loan, and no exit hook.
    let current: Current<'_, I> = unsafe { RSEQ.current(&AREA) }.unwrap();
    ptrace::trace_me().unwrap();
    let mut aborted = 0;
    for commit in [Commit::Relaxed, Commit::Release] {
        for nth in 0..P::SECTIONS {
            for round in 0..rounds {
                // Of many rounds every other one is a single try, so that an abort shows.
                let current = match round % 2 {
                    1 => current.restarts(0),
                    _ => current,
                };
                match P::once(nth, current, commit, stop) {
                    // Not a panic: of a broken program that is how it is to end.
                    End::Wrong => exit_group(WRONG + nth as i32),
                    End::Missed(Miss::Aborted) => aborted += 1,
                    _ => {}
                }
            }
        }
    }
    // In one round each section is stepped all the way, and has no try that is not.
    let enough = if rounds == 1 { 2 * P::SECTIONS } else { 1 };
    assert!(aborted >= enough, "{aborted} tries were aborted");
    exit_group(ALL_RIGHT)
}

fn begin(ctx: &Ctx<'_>) -> bool {
    super::init(ctx);
    RSEQ.section_support() == SectionSupport::Allowed
}

/// Which kinds of index this kernel has.
fn indices(ctx: &Ctx<'_>) -> usize {
    if ctx.facts.feature_size >= 28 { 2 } else { 1 }
}

/// A stop after every instruction: every section is aborted, up to the bound, and says so.
pub fn stepped<P: Program>(ctx: &Ctx<'_>) {
    if !begin(ctx) {
        skip!("this kernel may run no sections");
    }
    let cpu = witness::cpus().iter().next().unwrap();
    let (mut steps, mut sections) = (0, 0u32);
    let bodies: [fn() -> !; 2] = [|| child::<P, CpuId>(1), || child::<P, MmCid>(1)];
    for body in bodies.into_iter().take(indices(ctx)) {
        // SAFETY: start (1) the test is a process of its own.
        let mut child = unsafe { Stepper::start(body) }.unwrap();
        child.move_with_tracer(cpu).unwrap();
        while child.stands() {
            child.step(u32::MAX).unwrap();
            sections += 1;
            if child.stands() {
                child.run().unwrap();
            }
        }
        let end = Status::Exited(ALL_RIGHT);
        assert_eq!(child.status, end, "after {} steps", child.steps);
        steps += child.steps;
    }
    passed!("{steps} steps, {sections} operations, which all came to their end");
}

/// Stopped after so many instructions, and disturbed: the operation ends right, wherever that was.
pub fn each_depth<P: Program>(ctx: &Ctx<'_>, disturb: Disturb) {
    if !begin(ctx) {
        skip!("this kernel may run no sections");
    }
    let (mut steps, mut count) = (0, 0);
    for nth in 0..indices(ctx) {
        let (child, disturbed) = disturbed::<P>(ctx, disturb, nth);
        let end = Status::Exited(ALL_RIGHT);
        assert_eq!(child.status, end, "disturbed {disturbed} times");
        steps += child.steps;
        count += disturbed;
    }
    let name = match disturb {
        Disturb::Move => "moves",
        Disturb::Signal => "signals",
    };
    passed!("{count} {name}, each after another instruction, {steps} steps");
}

/// Of a program whose first section is broken: disturbed so, it is found out.
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

/// By the `nth` index, each round stopped after some more instructions than the last one. The child, which has ended, and
/// how often it was disturbed.
fn disturbed<P: Program>(ctx: &Ctx<'_>, disturb: Disturb, nth: usize) -> (Stepper, u64) {
    let cpus = witness::cpus();
    let stride = ctx.scale(1, P::STRIDE.into(), P::STRIDE.into()) as u32;
    let body: fn() -> ! = match (nth, stride) {
        (0, 1) => || child::<P, CpuId>(P::REACH),
        (_, 1) => || child::<P, MmCid>(P::REACH),
        (0, _) => || child::<P, CpuId>(P::REACH / P::STRIDE),
        _ => || child::<P, MmCid>(P::REACH / P::STRIDE),
    };
    // SAFETY: start (1) the test is a process of its own.
    let mut child = unsafe { Stepper::start(body) }.unwrap();
    let first = cpus.iter().next().unwrap();
    child.move_with_tracer(first).unwrap();
    let (mut depth, mut count) = (nth as u32, 0);
    let mut to = core::iter::repeat(()).flat_map(|()| cpus.iter());
    while child.stands() {
        if child.step_through(depth).unwrap() {
            let over = stride == 1 && depth + 1 == P::REACH;
            assert!(!over, "an operation is longer than {}", P::REACH);
            count += 1;
            match disturb {
                Disturb::Move => {
                    if let Some(cpu) = to.next() {
                        child.move_with_tracer(cpu).unwrap();
                    }
                    child.run().unwrap();
                }
                Disturb::Signal => child.run_with(SIGNAL).unwrap(),
            }
        }
        // The stop behind the section.
        if child.stands() {
            child.run().unwrap();
        }
        depth = (depth + stride) % P::REACH;
    }
    sched::allow(0, &cpus).unwrap();
    (child, count)
}
