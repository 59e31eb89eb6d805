//! A reader on another CPU that sees a release commit also sees its data.

use core::sync::atomic::{
    AtomicUsize,
    Ordering::{Acquire, Relaxed},
};
use rseq_rt::Thread;
use rseq_rt::percpu::{Commit, CpuId, Current, Operation, SectionSupport};

use super::slot::{self, BYTES, FAR, HEAD, NEXT, Node, SECOND, VALUES, WORD, slots};
use crate::harness::{Ctx, Needs, Test, passed, skip};
use crate::hooked::{self, Hooked, RSEQ};
use crate::sys::sched::{self, CpuSet};
use crate::witness;

pub const TESTS: &[Test] =
    &[Test::new("percpu/release-is-seen-with-its-data", seen).needs(Needs::RSEQ.cpus(2))];

/// The number of operations that commit a number.
const OPS: usize = 6;
/// The broken variant: an add that writes its data after the commit.
const BROKEN: usize = 6;

static DATA: AtomicUsize = AtomicUsize::new(0);
static ROUNDS: AtomicUsize = AtomicUsize::new(0);
static FINISHED: AtomicUsize = AtomicUsize::new(0);
/// The writer's CPU. The reader runs elsewhere: a thread inherits its parent's CPUs, so neither queries its own.
static CPU: AtomicUsize = AtomicUsize::new(0);
/// The last number that the reader saw; greater than all of them when it is done.
static SEEN: AtomicUsize = AtomicUsize::new(0);

/// Nodes that the reader found in the list.
static LISTED: AtomicUsize = AtomicUsize::new(0);

/// Rounds in which the writer waits until the reader has seen its number or node, so that they meet on any machine. The
/// other rounds run freely.
const MEETINGS: usize = 200;

/// Relaxed, so that it does not order the two threads.
fn meet(round: usize) {
    while round <= MEETINGS && SEEN.load(Relaxed) < round {
        core::hint::spin_loop();
    }
}
static NODES: [Node; 2] = [const { Node::new() }; 2];

/// On the first CPU: writes the data, then commits, repeatedly.
fn writer(thread: &Thread<'_>, hooked: &Hooked) {
    sched::allow(0, &CpuSet::one(CPU.load(Relaxed) as u32)).unwrap();
    // SAFETY: (1) no loan, no green threads.
    let current: Current<'_, CpuId> = unsafe { thread.current() }.unwrap();
    let slots = slots().unwrap();
    for round in 1..=ROUNDS.load(Relaxed) {
        if hooked.argument != BROKEN {
            DATA.store(round, Relaxed);
        }
        let (before, copied) = (round - 1, [round]);
        let source = copied.as_ptr().cast();
        #[rustfmt::skip] // a table
        let op = match hooked.argument {
            0 | BROKEN => Operation::Add { word: WORD, value: 1 },
            1 => Operation::AddThrough { word: SECOND, offset: FAR, value: 1 },
            2 => Operation::CompareAndStore { word: WORD, expect: before, new: round },
            3 => Operation::CompareTwoAndStore { word: WORD, expect: before, second: HEAD, expect_second: 0, new: round },
            // These carry data of their own.
            4 => Operation::CompareStoreAndStore { word: WORD, expect: before, second: VALUES, value: round, new: round },
            _ => Operation::CompareCopyAndStore { word: WORD, expect: before, offset: BYTES, source, length: 8, new: round },
        };
        // SAFETY: (1, 2, 3, 4) the words of `Slot`, written only by this thread.
        while unsafe { current.run(slots, op, Commit::Release) }.is_err() {}
        meet(round);
        if hooked.argument == BROKEN {
            DATA.store(round, Relaxed);
        }
    }
    // A list: each node is pushed with data, and popped before it is pushed again.
    let rounds = if hooked.argument == 0 {
        ROUNDS.load(Relaxed)
    } else {
        0
    };
    for round in 1..=rounds {
        let node = &NODES[round % 2];
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

/// The failed check, and its values.
type Wrong = (&'static str, [usize; 3]);

/// On another CPU: a reader that sees the number sees the data. Returns how many numbers it saw, or the failed check.
fn read(nth: usize) -> Result<u64, Wrong> {
    let slots = slot::few::<CpuId>().unwrap();
    let slot = slots.get(CPU.load(Relaxed)).unwrap();
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
            return Err(("the number, and older data", [seen, data, carried]));
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
            // The pushed value or a later one: the other node is one round apart.
            let found = node.found.load(Relaxed);
            if found == 0 || found + 1 < round {
                return Err((
                    "a node of an older round",
                    [found as usize, round as usize, 0],
                ));
            }
            round = found;
        }
    }
    Ok(numbers)
}

fn pair(nth: usize) -> Result<u64, Wrong> {
    slot::clear();
    DATA.store(0, Relaxed);
    FINISHED.store(0, Relaxed);
    SEEN.store(0, Relaxed);
    let writer = hooked::start_joinable(64 * 1024, writer, nth).unwrap();
    let found = read(nth);
    // Ends the writer's wait for the reader.
    SEEN.store(usize::MAX, Relaxed);
    writer.join().unwrap();
    found
}

fn seen(ctx: &Ctx<'_>) {
    super::init(ctx);
    if RSEQ.section_support() != SectionSupport::Allowed {
        skip!("this kernel may run no sections");
    }
    let cpus = witness::cpus();
    let (first, last) = (cpus.iter().next(), cpus.iter().last());
    let (Some(first), Some(last)) = (first, last.filter(|_| first != last)) else {
        skip!("this thread may use one CPU only");
    };
    CPU.store(first as usize, Relaxed);
    sched::allow(0, &CpuSet::one(last)).unwrap();
    ROUNDS.store(ctx.scale(500_000, 10_000, 0) as usize, Relaxed);
    let mut numbers = 0;
    for nth in 0..OPS {
        let seen = pair(nth).unwrap_or_else(|wrong| panic!("operation {nth}: {wrong:?}"));
        let met = seen >= MEETINGS as u64;
        assert!(met, "the reader saw {seen} numbers of operation {nth}");
        numbers += seen;
    }
    let listed = LISTED.load(Relaxed);
    assert!(listed >= MEETINGS, "{listed} nodes were seen in the list");
    // The reader does notice the broken variant.
    let noticed = pair(BROKEN).is_err();
    assert!(noticed, "data that comes after its commit was not noticed");
    passed!(
        "{OPS} operations, {numbers} numbers seen with their data, and {listed} nodes of a list"
    );
}
