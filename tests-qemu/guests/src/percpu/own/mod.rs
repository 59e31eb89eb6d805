//! Sections that are not of this crate, through the same tests as those that are.
//!
//! A structure comes here by an implementation of [`Subject`], by a row in each of the tables below, and, to be stressed,
//! by a [`Kind`](super::work::Kind). It uses the public interface of the crate, and `NAME::injected` of the feature
//! `inject`, which [`attempt!`](crate::attempt!) calls.

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

/// The family, but for the stress tests.
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

/// Steps by breakpoints, on an emulated CPU, take their time.
const fn signalled(name: &'static str, run: Run) -> Test {
    single_stepped(name, run).limit(1200)
}

const fn moved(name: &'static str, run: Run) -> Test {
    Test::new(name, run)
        .needs(Needs::RSEQ.and(Needs::PTRACE).cpus(2))
        .limit(1200)
}

/// A structure, and its sections. It lies in a static of its own.
///
/// Its *sum* is a number that each commit changes by an amount that the caller knows: as often as not the sum of a hash
/// of all values that are in it.
pub trait Subject {
    /// How many sections there are. The first one brings something in; the others find something.
    const SECTIONS: usize;
    /// What a section takes along, or where it puts what it finds.
    type Data;

    /// Everything as at the start. Nobody works.
    fn clear();

    /// For a run of the `nth` section; `seed` is in no other one's.
    fn data(nth: usize, seed: usize) -> Self::Data;

    /// The `nth` section, as `attempt` says. Atomic read-modify-writes have no place here: a thread that is stopped
    /// at each instruction never leaves the loops that they are on some CPUs.
    fn run<I: Index>(
        nth: usize,
        attempt: Attempt<'_, I>,
        data: &mut Self::Data,
    ) -> Result<usize, Miss>;

    /// By how much the sum changed where the `nth` section answered `result`.
    fn change(nth: usize, data: &Self::Data, result: usize) -> usize;

    /// A number that each commit in that slot changes.
    fn held(slot: usize) -> usize;

    /// The sum of all slots; `None` if something is there that is half done.
    fn sum() -> Option<usize>;
}

/// How a section is to be run.
#[derive(Clone, Copy)]
pub struct Attempt<'a, I: Index> {
    pub current: Current<'a, I>,
    pub commit: Commit,
    /// Where it is to stop, if it is the copy that can.
    pub steps: Option<&'a Steps>,
}

/// Runs a section of [`rseq_rt::section!`], or its copy that stops.
#[macro_export]
macro_rules! attempt {
    ($attempt:expr, $section:ident, $slots:expr $(, $operand:expr)*) => {{
        let (attempt, slots) = ($attempt, $slots);
        match attempt.steps {
            None => $section(attempt.current, slots, attempt.commit $(, $operand)*),
            Some(steps) => {
                let steps = core::ptr::from_ref(steps).cast_mut();
                $section::injected(attempt.current, slots, attempt.commit $(, $operand)*, steps)
            }
        }
    }};
}

/// So that a sum of many tells whether one is missing and another one there twice.
pub fn mixed(value: usize) -> usize {
    let value = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (value ^ value >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1
}
