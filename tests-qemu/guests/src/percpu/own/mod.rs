//! User-defined sections, in the same tests as the crate's own.
//!
//! To add a structure: an implementation of [`Subject`], a row in each of the tables below, and, for the stress test, a
//! [`Kind`](super::work::Kind). It uses the crate's public interface, and `NAME::injected` of feature `inject`, which
//! [`attempt!`](crate::attempt!) calls.

mod broken;
mod edges;
pub mod events;
pub mod slab;
pub mod steps;

use rseq_rt::percpu::inject::Steps;
use rseq_rt::percpu::{Commit, Current, Index, Miss};

use self::broken::{AddedBefore, HeadFirst};
use self::edges::{EventEdges, SlabEdges, edges};
use self::events::Events;
use self::slab::Slabs;
use self::steps::Stepped;
use super::steps::{Disturb, broken, each_depth, stepped};
use crate::harness::{Ctx, Needs, Test};

/// The tests, except the stress tests.
pub const TESTS: &[Test] = &[
    Test::new("percpu/own-edges-slab", edges::<SlabEdges>).needs(Needs::RSEQ),
    Test::new("percpu/own-edges-events", edges::<EventEdges>).needs(Needs::RSEQ),
    single_stepped("percpu/own-single-stepped-slab", stepped::<Stepped<Slabs>>),
    single_stepped(
        "percpu/own-single-stepped-events",
        stepped::<Stepped<Events>>,
    ),
    moved("percpu/own-moved-slab", |ctx| {
        each_depth::<Stepped<Slabs>>(ctx, Disturb::Move)
    }),
    moved("percpu/own-moved-events", |ctx| {
        each_depth::<Stepped<Events>>(ctx, Disturb::Move)
    }),
    signalled("percpu/own-signalled-slab", |ctx| {
        each_depth::<Stepped<Slabs>>(ctx, Disturb::Signal)
    }),
    signalled("percpu/own-signalled-events", |ctx| {
        each_depth::<Stepped<Events>>(ctx, Disturb::Signal)
    }),
    signalled("percpu/own-broken-head-first", |ctx| {
        broken::<Stepped<HeadFirst>>(ctx, Disturb::Signal)
    }),
    signalled("percpu/own-broken-added-before", |ctx| {
        broken::<Stepped<AddedBefore>>(ctx, Disturb::Signal)
    }),
];

type Run = fn(&Ctx<'_>);

const fn single_stepped(name: &'static str, run: Run) -> Test {
    Test::new(name, run).needs(Needs::RSEQ.and(Needs::PTRACE))
}

/// Steps by breakpoints are slow on an emulated CPU.
const fn signalled(name: &'static str, run: Run) -> Test {
    single_stepped(name, run).limit(1200)
}

const fn moved(name: &'static str, run: Run) -> Test {
    Test::new(name, run)
        .needs(Needs::RSEQ.and(Needs::PTRACE).cpus(2))
        .limit(1200)
}

/// A structure in a static, and its sections. Its *sum* is a number that each commit changes by an amount known to the
/// caller: usually the sum of a hash of all values in it.
pub trait Subject {
    /// The number of sections, up to eight. The first adds an item; the others take one. Before one of the others two
    /// items are added: states that take more than that, such as *full*, are tried by a test of their own (`edges.rs`).
    const SECTIONS: usize;
    /// The data that a section stores, or receives.
    type Data;

    /// Resets everything. No thread is at work.
    fn clear();

    /// Data for a run of the `nth` section; no other run has this `seed`.
    fn data(nth: usize, seed: usize) -> Self::Data;

    /// Runs the `nth` section, as `attempt` says. Atomic read-modify-writes are forbidden: on some CPUs they are loops,
    /// which a single-stepped thread never leaves.
    fn run<I: Index>(
        nth: usize,
        attempt: Attempt<'_, I>,
        data: &mut Self::Data,
    ) -> Result<usize, Miss>;

    /// The change of the sum after the `nth` section returned `result`.
    fn change(nth: usize, data: &Self::Data, result: usize) -> usize;

    /// A number that every commit in that slot changes; there are 256 slots.
    fn held(slot: usize) -> usize;

    /// The sum of all slots; `None` if an item is half done.
    fn sum() -> Option<usize>;
}

/// How to run a section.
#[derive(Clone, Copy)]
pub struct Attempt<'a, I: Index> {
    pub current: Current<'a, I>,
    pub commit: Commit,
    /// The stops, if it is the copy that can stop.
    pub steps: Option<&'a Steps>,
}

/// Runs a section of [`rseq_rt::section!`], or its copy that stops.
#[macro_export]
macro_rules! attempt {
    ($attempt:expr, $section:ident, $slots:expr $(, $operand:expr)*) => {{
        let (attempt, slots) = ($attempt, $slots);
        $crate::arch::fill_registers();
        match attempt.steps {
            None => $section(attempt.current, slots, attempt.commit $(, $operand)*),
            Some(steps) => {
                let steps = core::ptr::from_ref(steps).cast_mut();
                $section::injected(attempt.current, slots, attempt.commit $(, $operand)*, steps)
            }
        }
    }};
}

/// A hash, so that a missing value and a duplicate of another one do not cancel out.
pub fn mixed(value: usize) -> usize {
    let value = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (value ^ value >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1
}
