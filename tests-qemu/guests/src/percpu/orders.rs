//! A release commit is seen with its data by a reader on another CPU.

use core::sync::atomic::{
    AtomicUsize,
    Ordering::{Acquire, Relaxed},
};
use rseq_rt::Thread;
use rseq_rt::percpu::{Commit, CpuId, Current, Operation, Sections};

use super::slot::{self, BYTES, FAR, HEAD, NEXT, Node, SECOND, VALUES, WORD, slots};
use crate::harness::{Ctx, Failed, Needs, Test, Verdict};
use crate::hooked::{self, Hooked, RSEQ};
use crate::show::Text;
use crate::sys::sched::{self, CpuSet};
use crate::{check, passed, skip, text, witness};

/// The family.
pub const TESTS: &[Test] =
    &[Test::new("percpu/release-is-seen-with-its-data", seen).needs(Needs::RSEQ.cpus(2))];

/// Operations that commit a number.
const OPS: usize = 6;
/// The broken variant: an add whose data comes after the commit.
const BROKEN: usize = 6;

static DATA: AtomicUsize = AtomicUsize::new(0);
static ROUNDS: AtomicUsize = AtomicUsize::new(0);
static FINISHED: AtomicUsize = AtomicUsize::new(0);
/// Where the writer runs. The reader is elsewhere: a thread inherits the CPUs of its parent, so neither asks what it may use.
static CPU: AtomicUsize = AtomicUsize::new(0);
/// The last number that the reader saw; beyond all of them when it is done.
static SEEN: AtomicUsize = AtomicUsize::new(0);

/// Nodes that the reader found in the list.
static LISTED: AtomicUsize = AtomicUsize::new(0);

/// Rounds in which the writer waits until the reader has seen its number, or its node: so they meet on any machine. The
/// others are free.
const MEETINGS: usize = 200;

/// Relaxed: it orders nothing between the two.
fn meet(round: usize) {
    while round <= MEETINGS && SEEN.load(Relaxed) < round {
        core::hint::spin_loop();
    }
}
static NODES: [Node; 2] = [const { Node::new() }; 2];

/// On the first CPU: data, and then the commit that tells of it, again and again.
fn writer(thread: &Thread<'_>, hooked: &Hooked) {
    let moved = sched::allow(0, &CpuSet::one(CPU.load(Relaxed) as u32));
    // SAFETY: (1) no loan, no green threads.
    let current: Option<Current<'_, CpuId>> = unsafe { thread.current() };
    let (Some(current), Some(slots)) = (current.filter(|_| moved.is_ok()), slots()) else {
        FINISHED.store(1, Relaxed);
        return;
    };
    for round in 1..=ROUNDS.load(Relaxed) {
        if hooked.argument != BROKEN {
            DATA.store(round, Relaxed);
        }
        let (before, copied) = (round - 1, [round]);
        let op = match hooked.argument {
            0 | BROKEN => Operation::Add {
                word: WORD,
                value: 1,
            },
            1 => Operation::AddThrough {
                word: SECOND,
                offset: FAR,
                value: 1,
            },
            2 => Operation::CompareAndStore {
                word: WORD,
                expect: before,
                new: round,
            },
            3 => Operation::CompareTwoAndStore {
                word: WORD,
                expect: before,
                second: HEAD,
                expect_second: 0,
                new: round,
            },
            // These carry data of their own.
            4 => Operation::CompareStoreAndStore {
                word: WORD,
                expect: before,
                second: VALUES,
                value: round,
                new: round,
            },
            _ => Operation::CompareCopyAndStore {
                word: WORD,
                expect: before,
                offset: BYTES,
                source: copied.as_ptr().cast(),
                length: 8,
                new: round,
            },
        };
        // SAFETY: (1, 2, 3, 4) the words of `Slot`, written by this thread alone.
        while unsafe { current.run(slots, op, Commit::Release) }.is_err() {}
        meet(round);
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
        let push = Operation::CompareLinkAndStore {
            word: HEAD,
            expect: 0,
            link: node.next.as_ptr(),
            new: at,
        };
        let pop = Operation::Pop {
            word: HEAD,
            empty: core::ptr::null_mut(),
            link: NEXT,
        };
        let before = LISTED.load(Relaxed);
        for op in [push, pop] {
            // SAFETY: as above.
            while unsafe { current.run(slots, op, Commit::Release) }.is_err() {}
            let was_seen = || LISTED.load(Relaxed) != before || SEEN.load(Relaxed) == usize::MAX;
            while round <= MEETINGS && !was_seen() {
                core::hint::spin_loop();
            }
        }
    }
    FINISHED.store(1, Relaxed);
}

/// On another one: whoever sees the number sees the data. What was wrong, and how many numbers were seen.
fn read(nth: usize) -> (Option<Text>, u64) {
    let cpu = CPU.load(Relaxed);
    let slot = slot::few::<CpuId>().and_then(|slots| slots.get(cpu));
    let Some(slot) = slot else {
        SEEN.store(usize::MAX, Relaxed);
        return (Some(text!("no slot of CPU ", cpu)), 0);
    };
    let word = if nth == 1 { &slot.far } else { &slot.word };
    let (mut numbers, mut last, mut round) = (0, 0, 0);
    let done = |wrong, numbers| {
        SEEN.store(usize::MAX, Relaxed);
        (wrong, numbers)
    };
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
            let wrong = text!(seen, " with data ", data, " and ", carried);
            return done(Some(wrong), numbers);
        }
        if seen != last {
            numbers += 1;
            last = seen;
            SEEN.store(seen, Relaxed);
        }
        let head = slot.head.load(Acquire);
        // SAFETY: a static node, or null.
        if let Some(node) = unsafe { head.as_ref() } {
            LISTED.fetch_add(1, Relaxed);
            // What it was pushed with, or later: the other node is one round apart.
            let found = node.found.load(Relaxed);
            if found == 0 || found + 1 < round {
                let wrong = text!("a node of round ", found, " after ", round);
                return done(Some(wrong), numbers);
            }
            round = found;
        }
    }
    done(None, numbers)
}

/// One writer and one reader.
fn pair(nth: usize) -> Result<(Option<Text>, u64), Failed> {
    slot::clear();
    DATA.store(0, Relaxed);
    FINISHED.store(0, Relaxed);
    SEEN.store(0, Relaxed);
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
    let cpus = witness::cpus();
    let (first, last) = (cpus.iter().next(), cpus.iter().last());
    let (Some(first), Some(last)) = (first, last.filter(|_| first != last)) else {
        return skip!("this thread may use one CPU only");
    };
    CPU.store(first as usize, Relaxed);
    sched::allow(0, &CpuSet::one(last))?;
    ROUNDS.store(ctx.scale(500_000, 10_000, 0) as usize, Relaxed);
    let mut numbers = 0;
    for nth in 0..OPS {
        let (wrong, seen) = pair(nth)?;
        if let Some(wrong) = wrong {
            check!(false, "operation ", nth, ": ", wrong);
        }
        let met = seen >= MEETINGS as u64;
        check!(met, "the reader saw ", seen, " numbers of operation ", nth);
        numbers += seen;
    }
    let listed = LISTED.load(Relaxed);
    check!(listed >= MEETINGS, listed, " nodes were seen in the list");
    // And the reader does notice.
    let (noticed, _) = pair(BROKEN)?;
    check!(
        noticed.is_some(),
        "data that comes after its commit was not noticed"
    );
    passed!(
        OPS,
        " operations, ",
        numbers,
        " numbers seen with their data, and ",
        listed,
        " nodes of a list"
    )
}
