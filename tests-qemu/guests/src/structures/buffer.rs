//! Pointers and records: none lost, duplicated or mixed up.

use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU32, AtomicUsize};

use rseq_rt::percpu::{CpuId, Index, MmCid};
use rseq_rt::structures::{Buffer, DrainError, Fence, Full, PopError};

use super::cards::{Card, Held};
use super::crowd::{self, SLOTS, Work, here, place, place_mut};
use super::fresh;
use super::here::Here;
use crate::harness::{Ctx, Test, passed};
use crate::sys::sched;

pub const TESTS: &[Test] = &[
    Test::new("structures/buffer-by-cpu", crowded::<CpuId>),
    Test::new("structures/buffer-by-concurrency-id", crowded::<MmCid>),
];

/// More than fit into one slot, so that slots are sometimes full.
const CARDS: usize = 24;
const ROOM: usize = 14;

struct Subject<I: Index> {
    pool: Buffer<'static, Card, ROOM, I>,
    rounds: usize,
    held: Held,
    missed: AtomicUsize,
    full: AtomicU32,
}

impl<I: Index> Subject<I> {
    fn once(&self, wait: bool) {
        match self.pool.pop(here::<I>()) {
            Ok(pointer) => {
                // SAFETY: only cards are stored, and they stay.
                unsafe { pointer.as_ref() }.take(&self.held);
                if wait {
                    sched::relax();
                }
                self.put(here::<I>(), pointer);
            }
            Err(PopError::Empty | PopError::Busy) => {
                self.missed.fetch_add(1, Relaxed);
                sched::relax();
            }
        }
    }

    /// Gives it back where there is room.
    fn put(&self, mut here: Option<Here<I>>, pointer: NonNull<Card>) {
        // SAFETY: as above.
        unsafe { pointer.as_ref() }.put();
        while let Err(Full(same)) = self.pool.push(here, pointer) {
            assert_eq!(same, pointer);
            self.full.fetch_add(1, Relaxed);
            // The overflow slot next, then this thread's slot again: both together have room for all cards.
            here = if here.is_some() { None } else { crowd::here() };
        }
    }
}

impl<I: Index> Work for Subject<I> {
    fn work(&self, number: usize) {
        for round in 0..self.rounds {
            self.once((round + number).is_multiple_of(32));
        }
    }

    fn handle(&self) {
        self.once(false);
    }
}

/// Takes the content of all slots and of the overflow slot, and gives it back if `give_back`. Returns the number.
fn drain<I: Index>(subject: &Subject<I>, fence: &Fence, give_back: bool) -> usize {
    let mut got = [None; CARDS];
    let mut count = 0;
    let mut each = |pointer: NonNull<Card>| {
        // SAFETY: only cards are stored, and they stay.
        unsafe { pointer.as_ref() }.take(&subject.held);
        got[count] = Some(pointer);
        count += 1;
    };
    for slot in 0..SLOTS {
        match subject.pool.drain(slot, fence, &mut each) {
            Ok(_) | Err(DrainError::Busy) => {}
            Err(why) => panic!("the drain of slot {slot}: {why:?}"),
        }
    }
    subject.pool.drain_overflow(None::<Here<I>>, &mut each);
    // This thread's slot first: threads without one need the room in the overflow slot.
    for pointer in got.into_iter().flatten().filter(|_| give_back) {
        subject.put(here::<I>(), pointer);
    }
    count
}

pub(crate) fn crowded<I: Index>(ctx: &Ctx<'_>) {
    crowd::begin(ctx);
    let subject = place(Subject {
        pool: fresh::buffer(),
        rounds: crowd::rounds(ctx, 20_000, 300, 300),
        held: Held::new(),
        missed: AtomicUsize::new(0),
        full: AtomicU32::new(0),
    });
    let cards: NonNull<Card> = place_mut([const { Card::new() }; CARDS]).cast();
    // Where no thread has a slot there is only the overflow slot.
    let count = if here::<I>().is_some() { CARDS } else { ROOM };
    for at in 0..count {
        // SAFETY: in the array.
        subject.put(here::<I>(), unsafe { cards.add(at) });
    }
    let fence = Fence::register();
    let mut drained = 0;
    let [stopped, shipped] = crowd::run::<_, I>(ctx, subject, || {
        drained += drain(subject, &fence, true);
    });
    let held = subject.held.count();
    // SAFETY: the threads have ended.
    let times = |at| unsafe { cards.add(at).as_ref() }.count();
    let counted: usize = (0..CARDS).map(times).sum();
    assert_eq!(counted, held, "times held");
    let left = drain(subject, &fence, false);
    assert_eq!(left, count, "cards");
    let (missed, full) = (subject.missed.load(Relaxed), subject.full.load(Relaxed));
    passed!(
        "{held} times held, {drained} drained, {missed} misses, {full} times full, aborted at a \
         stop {stopped}, without {shipped}"
    );
}
