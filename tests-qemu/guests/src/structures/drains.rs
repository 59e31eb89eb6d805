//! A drain against a section stopped at each of its steps, with and without the fence. One thread stops in a section on
//! one CPU, the main thread drains that CPU's slot from another one, and then releases the section. With the fence the
//! section was aborted and finds the slot empty. The broken variant's fence reports success without effect: the section
//! commits over the drain's mark.

use core::ptr::NonNull;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use rseq_rt::percpu::CpuId;
use rseq_rt::structures::{Buffer, Bytes, Fence, FreeList, Membarrier, Node};

use super::crowd::{self, SLOTS, place, place_mut};
use super::fresh;
use super::rounds::{Rounds, Told};
use super::slow::Slow;
use crate::harness::{Ctx, Needs, Test, passed, skip};
use crate::hooked::{self, Hooked, RSEQ};
use crate::sys::sched::{self, CpuSet};
use crate::witness;

// Without sections (a known-bad kernel) there is nothing to stop.
#[rustfmt::skip] // a table
pub const TESTS: &[Test] = &[
    Test::new("structures/drain-at-each-step-of-a-pop", at_each_step::<0>).needs(NEEDS),
    Test::new("structures/drain-at-each-step-of-a-push", at_each_step::<1>).needs(NEEDS),
    Test::new("structures/drain-at-each-step-of-a-buffer-pop", at_each_step::<2>).needs(NEEDS),
    Test::new("structures/drain-at-each-step-of-a-buffer-push", at_each_step::<3>).needs(NEEDS),
    Test::new("structures/drain-at-each-step-of-a-copy", at_each_step::<4>).needs(NEEDS),
    Test::new("structures/drain-without-the-fence-pop", broken::<0>).needs(NEEDS),
    Test::new("structures/drain-without-the-fence-push", broken::<1>).needs(NEEDS),
    Test::new("structures/drain-without-the-fence-buffer-pop", broken::<2>).needs(NEEDS),
    Test::new("structures/drain-without-the-fence-buffer-push", broken::<3>).needs(NEEDS),
    Test::new("structures/drain-without-the-fence-copy", broken::<4>).needs(NEEDS),
];

const NEEDS: Needs = Needs::RSEQ.and(Needs::REAL_KERNEL).cpus(2);
/// More than any of these sections has.
const STEPS: u32 = 60;
const POP: u32 = 0;
const PUSH: u32 = 1;
const BUFFER_POP: u32 = 2;
const BUFFER_PUSH: u32 = 3;
const COPY: u32 = 4;

/// A kernel whose fence reports success without effect.
#[derive(Clone, Copy)]
pub struct Lies;

// SAFETY: Membarrier (1) violated. This is the variant that must be seen.
unsafe impl Membarrier for Lies {
    fn membarrier(&self, _: u32, _: u32, _: u32) -> Result<(), rseq_rt::Errno> {
        Ok(())
    }

    fn visit(&self, _: u32) -> Result<(), rseq_rt::Errno> {
        Err(rseq_rt::Errno::NOSYS)
    }
}

type Item = Node<u32>;

struct Subject {
    list: FreeList<'static, u32>,
    buffer: Buffer<'static, Item, 14>,
    log: Bytes<'static, 112>,
    nodes: [NonNull<Item>; 2],
    rounds: Rounds,
    cpu: AtomicU32,
    /// The number that the worker got or stored in the round.
    worker: AtomicU32,
}

// SAFETY: the nodes are accessed through the list and the buffer.
unsafe impl Sync for Subject {}

/// One operation, to fill the slot, or in a section that stops. Returns the number that it got.
fn operate<const OP: u32>(
    subject: &Subject,
    here: impl rseq_rt::structures::ThreadSections<CpuId>,
    node: NonNull<Item>,
) -> u32 {
    match OP {
        POP => subject.list.pop(here).is_ok().into(),
        PUSH => {
            // SAFETY: push_ptr (1): in no list: each round empties all.
            unsafe { subject.list.push_ptr(here, node) };
            0
        }
        BUFFER_POP => subject.buffer.pop(here).is_ok().into(),
        BUFFER_PUSH => {
            let _ = subject.buffer.push(here, node);
            0
        }
        COPY => {
            let _ = subject.log.push(here, b"one");
            0
        }
        _ => 0,
    }
}

/// Takes everything by a drain that aborts. Returns the number.
fn drain<const OP: u32, K: Membarrier>(subject: &Subject, cpu: usize, fence: &Fence<K>) -> u32 {
    match OP {
        POP | PUSH => subject
            .list
            .take(cpu, fence)
            .map_or(0, |chain| chain.take(3).count() as u32),
        BUFFER_POP | BUFFER_PUSH => subject
            .buffer
            .drain(cpu, fence, |_| ())
            .map_or(0, |count| count as u32),
        _ => subject
            .log
            .drain(cpu, fence, |_| ())
            .map_or(0, |bytes| bytes as u32 / 3),
    }
}

fn rest<const OP: u32>(subject: &Subject) -> u32 {
    let fence = Fence::register();
    let slots: u32 = (0..SLOTS)
        .map(|cpu| drain::<OP, _>(subject, cpu, &fence))
        .sum();
    slots
        + match OP {
            POP | PUSH => subject.list.take_overflow().take(3).count() as u32,
            BUFFER_POP | BUFFER_PUSH => {
                subject.buffer.drain_overflow(None::<Slow<'_>>, |_| ()) as u32
            }
            _ => subject
                .log
                .drain_overflow(|_| ())
                .map_or(0, |bytes| bytes as u32 / 3),
        }
}

fn worker<const OP: u32>(thread: &rseq_rt::Thread<'_>, _: &Hooked) {
    // SAFETY: subject (1) `rounds`.
    let subject = unsafe { crowd::subject::<Subject>() };
    sched::allow(0, &CpuSet::one(subject.cpu.load(Relaxed))).unwrap();
    // SAFETY: Thread::current (1): nothing is lent.
    let current = unsafe { thread.current() }.unwrap();
    let here = Slow {
        current,
        stop: &subject.rounds.stop,
    };
    subject.rounds.each(|| {
        // Filled here: another CPU has another slot.
        let [filled, given] = subject.nodes;
        match OP {
            POP | PUSH => operate::<PUSH>(subject, current, filled),
            BUFFER_POP | BUFFER_PUSH => operate::<BUFFER_PUSH>(subject, current, filled),
            _ => operate::<COPY>(subject, current, filled),
        };
        let got = operate::<OP>(subject, here, given);
        subject.worker.store(got, Relaxed);
    });
}

/// Runs rounds at each step; the worker's share, the drain's and the rest must add up to everything.
fn rounds<const OP: u32, K: Membarrier>(
    rounds: u32,
    fence: &Fence<K>,
    stop_at_wrong: bool,
) -> Told {
    let mut cpus = witness::cpus().iter();
    let (here, there) = (cpus.next().unwrap(), cpus.next().unwrap());
    assert!((there as usize) < SLOTS, "no slot for CPU {there}");
    let subject = place(Subject {
        list: fresh::list(),
        buffer: fresh::buffer(),
        log: fresh::bytes(),
        nodes: [place_mut(Node::new(0)), place_mut(Node::new(1))],
        rounds: Rounds::new(),
        cpu: AtomicU32::new(there),
        worker: AtomicU32::new(0),
    });
    crowd::set_subject(subject);
    sched::allow(0, &CpuSet::one(here)).unwrap();
    let thread = hooked::start_joinable(64 * 1024, worker::<OP>, 0).unwrap();
    let there_are = if matches!(OP, POP | BUFFER_POP) { 1 } else { 2 };
    let told = subject.rounds.at_each_step(
        STEPS,
        rounds,
        stop_at_wrong,
        || drain::<OP, K>(subject, there as usize, fence),
        |drained| drained + subject.worker.load(Relaxed) + rest::<OP>(subject) == there_are,
    );
    thread.join().unwrap();
    told
}

fn allowed(ctx: &Ctx<'_>) -> bool {
    crowd::begin(ctx);
    RSEQ.section_support() == rseq_rt::percpu::SectionSupport::Allowed
}

fn at_each_step<const OP: u32>(ctx: &Ctx<'_>) {
    if !allowed(ctx) {
        skip!("this kernel is known to abort no sections");
    }
    let count = ctx.scale(6, 3, 0) as u32;
    let told = rounds::<OP, _>(count, &Fence::register(), false);
    told.right_at_each_step(STEPS);
}

/// The broken variant must be seen.
fn broken<const OP: u32>(ctx: &Ctx<'_>) {
    if !allowed(ctx) {
        skip!("this kernel is known to abort no sections");
    }
    // The first wrong round ends it; on a loaded machine most stops are aborted by a preemption.
    let count = ctx.scale(200, 60, 0) as u32;
    let told = rounds::<OP, _>(count, &Fence::register_on(Lies), true);
    let seen = told.wrong > 0;
    assert!(seen, "nothing was lost or doubled without the fence");
    passed!("seen");
}
