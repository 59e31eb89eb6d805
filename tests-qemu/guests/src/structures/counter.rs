//! Sums are exact.

use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::general::siginfo_t;
use rseq_rt::percpu::{CpuId, Index, MmCid};
use rseq_rt::structures::{Counter, CounterSlot};

use super::crowd::{self, Crowd, SLOTS, here, place};
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

fn work<I: Index>(number: usize) {
    // SAFETY: subject (1) `crowded`.
    let subject = unsafe { crowd::subject::<Subject<I>>() };
    for round in 0..subject.rounds {
        subject.counter.add(here::<I>(), number + 1);
        if round % 2 == 1 {
            subject.counter.sub(here::<I>(), number);
        }
    }
}

unsafe extern "C" fn handler<I: Index>(_: i32, _: *mut siginfo_t, _: *mut u8) {
    // SAFETY: subject (1) `crowded`.
    let subject = unsafe { crowd::subject::<Subject<I>>() };
    subject.counter.add(here::<I>(), 1);
    subject.handled.fetch_add(1, Relaxed);
}

pub(crate) fn crowded<I: Index>(ctx: &Ctx<'_>) {
    crowd::begin(ctx);
    let slots = place([const { CounterSlot::new() }; SLOTS]);
    let rounds = crowd::rounds(ctx, 100_000, 2_000, 1_000);
    let subject = place(Subject {
        counter: Counter::<I>::new(slots),
        rounds,
        handled: AtomicUsize::new(0),
    });
    let crowd = Crowd {
        generations: ctx.scale(5, 2, 2) as usize,
        work: work::<I>,
        handler: handler::<I>,
    };
    let mut seen = 0;
    let [stopped, shipped] = crowd::run::<_, I>(ctx, subject, &crowd, || {
        seen = subject.counter.sum().max(seen);
    });
    let threads = crowd::threads(ctx) * crowd.generations;
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
