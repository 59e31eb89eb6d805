//! A release commit is seen with its data by a reader on another CPU.

use core::sync::atomic::{
    AtomicUsize,
    Ordering::{Acquire, Relaxed},
};
use rseq_rt::Thread;
use rseq_rt::percpu::inject::Op;
use rseq_rt::percpu::{Commit, CpuId, Current, Sections};

use super::rig::shipped;
use super::slot::{self, BYTES, FAR, HEAD, NEXT, Node, SECOND, VALUES, WORD};
use crate::harness::{Ctx, Failed, Needs, Test, Verdict};
use crate::hooked::{self, Hooked, RSEQ};
use crate::show::Text;
use crate::sys::sched::{self, CpuSet};
use crate::{check, passed, skip, text, witness};

/// The family.
pub const TESTS: &[Test] = &[Test::new("percpu/release-is-seen-with-its-data", seen)
    .needs(Needs::RSEQ.cpus(2))
    .limit(60)];

/// Operations that commit a number.
const OPS: usize = 6;
/// The broken variant: an add whose data comes after the commit.
const BROKEN: usize = 6;

static DATA: AtomicUsize = AtomicUsize::new(0);
static ROUNDS: AtomicUsize = AtomicUsize::new(0);
static FINISHED: AtomicUsize = AtomicUsize::new(0);
static NODES: [Node; 2] = [const { Node::new() }; 2];

/// On the first CPU: data, and then the commit that tells of it, again and again.
fn writer(thread: &Thread<'_>, hooked: &Hooked) {
    let first = witness::cpus().iter().next().unwrap_or(0);
    let _ = sched::allow(0, &CpuSet::one(first));
    // SAFETY: (1) no loan, no green threads.
    let current: Option<Current<'_, CpuId>> = unsafe { thread.current() };
    let Some(current) = current else {
        return;
    };
    for round in 1..=ROUNDS.load(Relaxed) {
        if hooked.argument != BROKEN {
            DATA.store(round, Relaxed);
        }
        let (before, copied) = (round - 1, [round]);
        let op = match hooked.argument {
            0 | BROKEN => Op::Add(WORD, 1),
            1 => Op::AddThrough(SECOND, FAR, 1),
            2 => Op::CompareAndStore(WORD, before, round),
            3 => Op::CompareTwoAndStore(WORD, before, HEAD, 0, round),
            // These carry data of their own.
            4 => Op::CompareStoreAndStore(WORD, before, VALUES, round, round),
            _ => Op::CompareCopyAndStore(WORD, before, BYTES, copied.as_ptr().cast(), 8, round),
        };
        // SAFETY: (1, 2, 3, 4) the words of `Slot`, written by this thread alone.
        while unsafe { shipped(current, op, Commit::Release) }.is_err() {}
        // Two CPUs that take turns on a busy machine shall meet here: long enough for that at first, short later.
        let pause = match (hooked.argument, round) {
            (BROKEN, ..2000) => 5000,
            (BROKEN, _) | (_, ..2000) => 50,
            _ => 0,
        };
        (0..pause).for_each(|_| core::hint::spin_loop());
        if hooked.argument == BROKEN {
            DATA.store(round, Relaxed);
        }
    }
    // A list: each node comes with what was written into it, and is popped before it comes again.
    for round in 1..=ROUNDS.load(Relaxed) {
        let Some(node) = NODES.get(round % 2).filter(|_| hooked.argument == 0) else {
            break;
        };
        node.found.store(round as u64, Relaxed);
        let at = core::ptr::from_ref(node).expose_provenance();
        let push = Op::CompareLinkAndStore(HEAD, 0, node.next.as_ptr(), at);
        let pop = Op::Pop(HEAD, core::ptr::null_mut(), NEXT);
        for op in [push, pop] {
            // SAFETY: as above.
            while unsafe { shipped(current, op, Commit::Release) }.is_err() {}
        }
    }
    FINISHED.store(1, Relaxed);
}

/// On another one: whoever sees the number sees the data. What was wrong, and how many numbers were seen.
fn read(nth: usize) -> (Option<Text>, u64) {
    let first = witness::cpus().iter().next().unwrap_or(0);
    let slot = slot::few::<CpuId>().and_then(|slots| slots.get(first as usize));
    let Some(slot) = slot else {
        return (Some(text!("no slot of CPU ", first)), 0);
    };
    let word = if nth == 1 { &slot.far } else { &slot.word };
    let (mut numbers, mut last, mut round) = (0, 0, 0);
    while FINISHED.load(Relaxed) == 0 {
        let seen = word.load(Acquire);
        let data = DATA.load(Relaxed);
        let carried = match nth {
            4 => slot.values.first(),
            5 => slot.records.as_flattened().first(),
            _ => None,
        };
        let carried = carried.map_or(seen, |carried| carried.load(Relaxed));
        if data < seen || carried < seen {
            return (
                Some(text!(seen, " with data ", data, " and ", carried)),
                numbers,
            );
        }
        numbers += u64::from(seen != last);
        last = seen;
        let head = slot.head.load(Acquire);
        // SAFETY: a static node, or null.
        if let Some(node) = unsafe { head.as_ref() } {
            // What it was pushed with, or later: the other node is one round apart.
            let found = node.found.load(Relaxed);
            if found == 0 || found + 1 < round {
                return (
                    Some(text!("a node of round ", found, " after ", round)),
                    numbers,
                );
            }
            round = found;
        }
    }
    (None, numbers)
}

/// One writer and one reader.
fn pair(nth: usize) -> Result<(Option<Text>, u64), Failed> {
    slot::clear();
    DATA.store(0, Relaxed);
    FINISHED.store(0, Relaxed);
    let writer = hooked::start_joinable(64 * 1024, writer, nth)?;
    let found = read(nth);
    check!(writer.join().is_ok(), "join");
    Ok(found)
}

fn seen(ctx: &Ctx<'_>) -> Verdict {
    super::init(ctx)?;
    if RSEQ.sections() != Sections::Allowed {
        return skip!("this kernel may run no sections");
    }
    let last = witness::cpus().iter().last().unwrap_or(0);
    sched::allow(0, &CpuSet::one(last))?;
    ROUNDS.store(ctx.scale(500_000, 10_000, 0) as usize, Relaxed);
    // An emulator runs its CPUs as the machine below has time, at times one after the other: that proves nothing.
    let emulated = ctx.scale(0, 1, 1) == 1;
    let mut numbers = 0;
    for nth in 0..OPS {
        // On a busy machine the two may run one after the other: then again.
        let mut enough = 0;
        for _ in 0..50 {
            let (wrong, seen) = pair(nth)?;
            if let Some(wrong) = wrong {
                check!(false, "operation ", nth, ": ", wrong);
            }
            enough += seen;
            if enough > 2 {
                break;
            }
        }
        if enough == 0 && emulated {
            return skip!("the two emulated CPUs never met in 50 runs");
        }
        check!(enough != 0, "the reader saw nothing of operation ", nth);
        numbers += enough;
    }
    // And the reader does notice.
    let noticed = (0..50).any(|_| pair(BROKEN).is_ok_and(|(wrong, _)| wrong.is_some()));
    if !noticed && emulated {
        return skip!("the two emulated CPUs never met in the broken variant");
    }
    check!(noticed, "data that comes after its commit was not noticed");
    passed!(
        OPS,
        " operations and a list, ",
        numbers,
        " numbers seen with their data"
    )
}
