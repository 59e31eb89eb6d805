//! Sums are exact.

use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

use rseq_rt::percpu::{CpuId, Index, MmCid};
use rseq_rt::structures::Counter;

use super::crowd::{self, Work, here, place};
use super::fresh;
use crate::harness::{Ctx, Test, passed};

pub const TESTS: &[Test] = &[
    Test::new("structures/counter-by-cpu", crowded::<CpuId>),
    Test::new("structures/counter-by-concurrency-id", crowded::<MmCid>),
];

struct Subject<I: Index> {
    counter: Counter<'static, I>,
    rounds: usize,
    handled: AtomicUsize,
}

impl<I: Index> Work for Subject<I> {
    fn work(&self, number: usize) {
        for round in 0..self.rounds {
            self.counter.add(here::<I>(), number + 1);
            if round % 2 == 1 {
                self.counter.sub(here::<I>(), number);
            }
        }
    }

    fn handle(&self) {
        self.counter.add(here::<I>(), 1);
        self.handled.fetch_add(1, Relaxed);
    }
}

pub(crate) fn crowded<I: Index>(ctx: &Ctx<'_>) {
    crowd::begin(ctx);
    let rounds = crowd::rounds(ctx, 100_000, 2_000, 1_000);
    let subject = place(Subject {
        counter: fresh::counter::<I>(),
        rounds,
        handled: AtomicUsize::new(0),
    });
    let mut seen = 0;
    let [stopped, shipped] = crowd::run::<_, I>(ctx, subject, || {
        seen = subject.counter.sum().max(seen);
    });
    let threads = crowd::threads(ctx) * crowd::generations(ctx);
    let each = |number| rounds * (number + 1) - rounds / 2 * number;
    let handled = subject.handled.load(Relaxed);
    let expected: usize = (0..threads).map(each).sum::<usize>() + handled;
    let (sum, overflowed) = (subject.counter.sum(), subject.counter.overflowed());
    assert_eq!(sum, expected);
    if ctx.facts.rseq.is_err() {
        assert_eq!(overflowed, sum, "a slot was used without rseq");
    }
    passed!(
        "{sum}, of it by overflow {overflowed}, handlers {handled}, aborted at a stop {stopped}, \
         without {shipped}"
    );
}
