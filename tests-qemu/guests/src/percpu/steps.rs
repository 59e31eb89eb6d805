//! Under a tracer: stopped after every instruction, and stopped at one instruction and moved to another CPU.

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
    Test::new("percpu/single-stepped", stepped).needs(Needs::RSEQ.and(Needs::PTRACE)),
    Test::new("percpu/moved-at-each-instruction", moved)
        .needs(Needs::RSEQ.and(Needs::PTRACE).cpus(2))
        // Steps by breakpoints, on an emulated CPU, take their time.
        .limit(1200),
];

const ALL_RIGHT: i32 = 7;
/// More than the longest operation, once aborted and tried again, from the stop before it to the stop behind it.
const REACH: u32 = 110;
/// In the short form each so many depths, of each operation; without a common divisor, so that each depth is some
/// operation's.
const STRIDE: u32 = 13;

/// A child that makes all operations, each `rounds` times, with a stop before the section and one after it.
fn child<I: Index>(rounds: u32) -> ! {
    static AREA: Area = Area::new();
    static NODE: Node = Node::new();
    process::no_core_dump();
    slot::clear();
    // Before any step: deciding for the process is a compare-and-swap.
    // SAFETY: (1, 2, 3) the only thread's, static.
    let _ = unsafe { RSEQ.on_thread_create(&AREA) }.unwrap();
    // SAFETY: (1) its own; (2) no loan, and no exit hook.
    let current: Current<'_, I> = unsafe { RSEQ.current(&AREA) }.unwrap();
    let slots = slot::few::<I>().unwrap();
    ptrace::trace_me().unwrap();
    let mut aborted = 0;
    for commit in [Commit::Relaxed, Commit::Release] {
        for nth in 0..OPS {
            for round in 0..rounds {
                // Of many rounds every other one is a single try, so that an abort shows.
                let current = match round % 2 {
                    1 => current.restarts(0),
                    _ => current,
                };
                // For the pop, something to pop.
                while nth == 6 && once(5, current, slots, commit, &NODE, || {}) != End::Done {
                    slot::clear();
                }
                match once(nth, current, slots, commit, &NODE, stop) {
                    End::Wrong => panic!("operation {nth} said one thing and did another"),
                    End::Missed(Miss::Aborted) => aborted += 1,
                    _ => {}
                }
                if nth >= 5 {
                    slot::clear();
                }
            }
        }
    }
    // In one round each operation is stepped all the way, and has no try that is not.
    let enough = if rounds == 1 { 2 * OPS } else { 1 };
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
fn stepped(ctx: &Ctx<'_>) {
    if !begin(ctx) {
        skip!("this kernel may run no sections");
    }
    let (mut steps, mut sections) = (0, 0u32);
    let bodies: [fn() -> !; 2] = [|| child::<CpuId>(1), || child::<MmCid>(1)];
    for body in bodies.into_iter().take(indices(ctx)) {
        // SAFETY: start (1) the test is a process of its own.
        let mut child = unsafe { Stepper::start(body) }.unwrap();
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

/// Stopped after so many instructions, and moved: the operation ends right, wherever that was.
fn moved(ctx: &Ctx<'_>) {
    if !begin(ctx) {
        skip!("this kernel may run no sections");
    }
    let cpus = witness::cpus();
    let (mut steps, mut moves) = (0, 0u64);
    let stride = ctx.scale(1, STRIDE.into(), STRIDE.into()) as u32;
    let bodies: [[fn() -> !; 2]; 2] = [
        [|| child::<CpuId>(REACH), || child::<MmCid>(REACH)],
        [
            || child::<CpuId>(REACH / STRIDE),
            || child::<MmCid>(REACH / STRIDE),
        ],
    ];
    let [native, emulated] = bodies;
    let bodies = if stride == 1 { native } else { emulated };
    for (first, body) in bodies.into_iter().enumerate().take(indices(ctx)) {
        // SAFETY: start (1) the test is a process of its own.
        let mut child = unsafe { Stepper::start(body) }.unwrap();
        let mut depth = first as u32;
        let mut to = core::iter::repeat(()).flat_map(|()| cpus.iter());
        while child.stands() {
            if child.step(depth).unwrap() {
                let over = stride == 1 && depth + 1 == REACH;
                assert!(!over, "an operation is longer than {REACH}");
                if let Some(cpu) = to.next() {
                    sched::allow(child.pid as u32, &CpuSet::one(cpu)).unwrap();
                    moves += 1;
                }
                child.run().unwrap();
            }
            // The stop behind the section.
            if child.stands() {
                child.run().unwrap();
            }
            depth = (depth + stride) % REACH;
        }
        let end = Status::Exited(ALL_RIGHT);
        assert_eq!(child.status, end, "after {moves} moves");
        steps += child.steps;
    }
    passed!("{moves} moves, each after another instruction, {steps} steps");
}
