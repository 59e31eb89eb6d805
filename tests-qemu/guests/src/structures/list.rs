//! Nodes of a list: none lost or duplicated.

use core::ptr::NonNull;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::errno::{EINVAL, ENOSYS, EPERM};
use linux_raw_sys::general::__NR_membarrier;
use rseq_rt::percpu::{CpuId, Index, MmCid};
use rseq_rt::structures::{DrainError, Fence, FreeList, Node, PopError};

use super::cards::{Card, Held};
use super::crowd::{self, SLOTS, Work, here, place, place_mut};
use super::fresh;
use crate::errno::Errno;
use crate::harness::{Ctx, Needs, Test, passed};
use crate::seccomp::{self, Answer, When};
use crate::sys::sched;

#[rustfmt::skip] // a table
pub const TESTS: &[Test] = &[
    Test::new("structures/list-by-cpu", crowded::<CpuId>),
    Test::new("structures/list-by-concurrency-id", crowded::<MmCid>),
    Test::new("structures/list-without-membarrier-enosys", filtered::<ENOSYS>).needs(FILTERS),
    Test::new("structures/list-without-membarrier-einval", filtered::<EINVAL>).needs(FILTERS),
    Test::new("structures/list-without-membarrier-eperm", filtered::<EPERM>).needs(FILTERS),
];

const FILTERS: Needs = Needs::SECCOMP.and(Needs::REAL_KERNEL);
/// Fewer than threads, so that the same ones come back repeatedly.
const NODES: usize = 10;

struct Subject<I: Index> {
    list: FreeList<'static, Card, I>,
    rounds: usize,
    held: Held,
    missed: AtomicUsize,
}

impl<I: Index> Subject<I> {
    /// Gets a node, holds it, and gives it back.
    fn once(&self, wait: bool) {
        match self.list.pop(here::<I>()) {
            Ok(node) => {
                node.value.take(&self.held);
                if wait {
                    sched::relax();
                }
                node.value.put();
                self.list.push(here::<I>(), node);
            }
            Err(PopError::Empty | PopError::Busy) => {
                self.missed.fetch_add(1, Relaxed);
                sched::relax();
            }
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

/// Takes the content of all slots and of the overflow slot, and gives it back by the overflow slot, for threads without
/// another. Returns the number.
fn drain<I: Index>(subject: &Subject<I>, fence: &Fence, keep: bool) -> usize {
    let mut count = 0;
    for slot in 0..=SLOTS {
        let chain = match subject.list.take(slot, fence) {
            Ok(chain) => chain,
            Err(DrainError::NoSuchSlot) if slot == SLOTS => subject.list.take_overflow(),
            // By concurrency id there is no way but membarrier.
            Err(DrainError::Busy) => continue,
            // An offline CPU, which the caller would have to run on.
            Err(DrainError::Refused(_)) if !fence.has_membarrier() => continue,
            Err(why) => panic!("the drain of slot {slot}: {why:?}"),
        };
        for node in chain.take(NODES + 1) {
            count += 1;
            node.value.take(&subject.held);
            if !keep {
                node.value.put();
                subject
                    .list
                    .push(None::<rseq_rt::percpu::Current<'_, I>>, node);
            }
        }
    }
    count
}

pub(crate) fn crowded<I: Index>(ctx: &Ctx<'_>) {
    crowd::begin(ctx);
    let rounds = crowd::rounds(ctx, 20_000, 300, 300);
    crowd_of::<I>(ctx, Fence::register(), rounds)
}

/// No fence by membarrier: the main thread visits the CPU instead.
fn filtered<const ERRNO: u32>(ctx: &Ctx<'_>) {
    seccomp::install(__NR_membarrier, When::Always, Answer::Errno(Errno(ERRNO))).unwrap();
    crowd::begin(ctx);
    let fence = Fence::register();
    assert!(!fence.has_membarrier(), "the filter let it through");
    crowd_of::<CpuId>(ctx, fence, crowd::rounds(ctx, 5_000, 100, 0))
}

fn crowd_of<I: Index>(ctx: &Ctx<'_>, fence: Fence, rounds: usize) {
    let subject = place(Subject {
        list: fresh::list(),
        rounds,
        held: Held::new(),
        missed: AtomicUsize::new(0),
    });
    let nodes: NonNull<Node<Card>> = place_mut([const { Node::new(Card::new()) }; NODES]).cast();
    for at in 0..NODES {
        // Some for the threads without a slot.
        let here = here::<I>().filter(|_| at % 2 == 0);
        // SAFETY: push_ptr (1): in a mapping that stays, accessed only through the list.
        unsafe { subject.list.push_ptr(here, nodes.add(at)) };
    }
    let mut drained = 0;
    let [stopped, shipped] = crowd::run::<_, I>(ctx, subject, || {
        drained += drain(subject, &fence, false);
    });
    let held = subject.held.count();
    // SAFETY: the threads have ended, and the drain holds nothing.
    let count = |at| unsafe { nodes.add(at).as_ref() }.value.count();
    let counted: usize = (0..NODES).map(count).sum();
    assert_eq!(counted, held, "times held");
    let left = drain(subject, &fence, true);
    assert_eq!(left, NODES, "nodes");
    let missed = subject.missed.load(Relaxed);
    passed!(
        "{held} times held, {drained} drained, {missed} misses, aborted at a stop {stopped}, \
         without {shipped}"
    );
}
