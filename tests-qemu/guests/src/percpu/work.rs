//! The operations at work, each with a sum that must be exact at the end.

use core::cell::Cell;
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed};

use rseq_rt::percpu::{Commit, Current, Index, Miss, Operation};

use super::own::events::Events;
use super::own::slab::Slabs;
use super::own::{Attempt, Subject, mixed};
use super::rig::{Action, WORKERS, Worker};
use super::slot::{
    self, BYTES, FAR, HEAD, NEXT, Node, RECORDS, ROOM, SECOND, Slot, VALUES, WORD, WORDS, all,
};
use super::stops;

/// An operation and its use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Add,
    /// A sum behind a pointer.
    AddThrough,
    /// A sum by comparison.
    CompareAndStore,
    /// Two sums, each added to only if the other one is unchanged.
    CompareTwoAndStore,
    /// Values pushed into an array, and taken out again by comparing two.
    CompareStoreAndStore,
    /// Nodes pushed onto a list and popped off it.
    LinkAndPop,
    /// Records copied into a ring.
    CompareCopyAndStore,
    /// User-defined sections: batches into a slab and out of it.
    OwnSlab,
    /// User-defined sections: events into a log, and all of them out.
    OwnEvents,
}

/// The total put in, with a slot or without.
static IN: AtomicUsize = AtomicUsize::new(0);
/// The total put in without a slot, or taken out.
static OUT: AtomicUsize = AtomicUsize::new(0);
/// Operations that went without a slot.
pub static WITHOUT: AtomicU64 = AtomicU64::new(0);

const NODES: usize = 4;
static NODE: [[Node; NODES]; WORKERS] = [const { [const { Node::new() }; NODES] }; WORKERS];
/// The nodes that each worker holds, linked.
static HELD: [AtomicPtr<Node>; WORKERS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; WORKERS];

/// Resets everything. No thread is at work.
pub fn clear() {
    slot::clear();
    Slabs::clear();
    Events::clear();
    IN.store(0, Relaxed);
    OUT.store(0, Relaxed);
    WITHOUT.store(0, Relaxed);
    for (held, nodes) in HELD.iter().zip(&NODE) {
        held.store(core::ptr::null_mut(), Relaxed);
        for node in nodes {
            node.found.store(0, Relaxed);
            hold(held, core::ptr::from_ref(node).cast_mut());
        }
    }
}

fn hold(held: &AtomicPtr<Node>, node: *mut Node) {
    // SAFETY: a node of `NODE`, held by nobody else and in no list.
    let next = unsafe { &(*node).next };
    next.store(held.load(Relaxed).expose_provenance(), Relaxed);
    held.store(node, Relaxed);
}

fn let_go(held: &AtomicPtr<Node>) -> Option<*mut Node> {
    let node = held.load(Relaxed);
    // SAFETY: as in `hold`.
    let next = unsafe { &node.as_ref()?.next }.load(Relaxed);
    held.store(core::ptr::with_exposed_provenance_mut(next), Relaxed);
    Some(node)
}

/// One piece of a worker's work.
pub struct Job<'a, I: Index> {
    pub worker: &'a Worker,
    pub me: usize,
    pub count: usize,
    pub current: Option<Current<'a, I>>,
    pub commit: Commit,
    pub disturb: Option<Action>,
}

impl<I: Index> Job<'_, I> {
    fn run(&self, ask: impl FnMut(&Slot) -> Option<Operation>) -> Result<*mut u8, Miss> {
        let result = self
            .worker
            .run(self.current, self.commit, self.disturb, ask);
        if matches!(result, Err(Miss::Aborted | Miss::OutOfRange)) {
            WITHOUT.fetch_add(1, Relaxed);
        }
        result
    }

    /// Adds to a slot's sum, or else to the shared one.
    fn sum(&self, ask: impl Fn(&Slot, usize) -> Operation) {
        let value = 1 + self.worker.random() as usize % 1000;
        IN.fetch_add(value, Relaxed);
        if self.run(|slot| Some(ask(slot, value))).is_err() {
            OUT.fetch_add(value, Relaxed);
        }
    }

    pub fn work(&self, kind: Kind) {
        match kind {
            Kind::Add => self.sum(|_, value| Operation::Add { word: WORD, value }),
            Kind::AddThrough => self.sum(|_, value| Operation::AddThrough {
                word: SECOND,
                offset: FAR,
                value,
            }),
            Kind::CompareAndStore => self.sum(|slot, value| {
                let word = slot.word.load(Relaxed);
                Operation::CompareAndStore {
                    word: WORD,
                    expect: word,
                    new: word.wrapping_add(value),
                }
            }),
            Kind::CompareTwoAndStore => {
                let other = core::mem::offset_of!(Slot, far);
                let swapped = self.count % 2 == 1;
                self.sum(|slot, value| {
                    let (word, far) = (slot.word.load(Relaxed), slot.far.load(Relaxed));
                    if swapped {
                        Operation::CompareTwoAndStore {
                            word: other,
                            expect: far,
                            second: WORD,
                            expect_second: word,
                            new: far.wrapping_add(value),
                        }
                    } else {
                        Operation::CompareTwoAndStore {
                            word: WORD,
                            expect: word,
                            second: other,
                            expect_second: far,
                            new: word.wrapping_add(value),
                        }
                    }
                });
            }
            Kind::CompareStoreAndStore if self.count.is_multiple_of(2) => self.push_value(),
            Kind::CompareStoreAndStore => self.pop_value(),
            Kind::LinkAndPop if self.worker.random().is_multiple_of(2) => self.push_node(),
            Kind::LinkAndPop => self.pop_node(),
            Kind::CompareCopyAndStore => self.copy(),
            Kind::OwnSlab => self.own::<Slabs>(),
            Kind::OwnEvents => self.own::<Events>(),
        }
    }

    /// Runs the sections of a structure in turn.
    fn own<S: Subject>(&self) {
        let nth = self.count % S::SECTIONS;
        let mut data = S::data(nth, self.unique());
        let result = match self.current {
            None => Err(Miss::OutOfRange),
            Some(current) => {
                let (current, commit) = (current.restarts(0), self.commit);
                self.worker
                    .run_own(stops::own::<I>(nth), self.disturb, |steps| {
                        let attempt = Attempt {
                            current,
                            commit,
                            steps,
                        };
                        S::run(nth, attempt, &mut data)
                    })
            }
        };
        match result {
            Ok(result) => {
                IN.fetch_add(S::change(nth, &data, result), Relaxed);
            }
            Err(Miss::Aborted | Miss::OutOfRange) => {
                WITHOUT.fetch_add(1, Relaxed);
            }
            Err(Miss::Differs) => {}
        }
    }

    fn unique(&self) -> usize {
        self.me << 32 | self.count
    }

    fn push_value(&self) {
        let value = self.unique();
        let pushed = self.run(|slot| {
            let count = slot.word.load(Relaxed);
            (count < ROOM).then(|| Operation::CompareStoreAndStore {
                word: WORD,
                expect: count,
                second: VALUES + count * 8,
                value,
                new: count + 1,
            })
        });
        if pushed.is_ok() {
            IN.fetch_add(mixed(value), Relaxed);
        }
    }

    fn pop_value(&self) {
        let seen = Cell::new(0);
        let popped = self.run(|slot| {
            let count = slot.word.load(Relaxed);
            let last = count.checked_sub(1)?;
            let value = slot.values[last].load(Relaxed);
            seen.set(value);
            Some(Operation::CompareTwoAndStore {
                word: WORD,
                expect: count,
                second: VALUES + last * 8,
                expect_second: value,
                new: last,
            })
        });
        if popped.is_ok() {
            OUT.fetch_add(mixed(seen.get()), Relaxed);
        }
    }

    fn push_node(&self) {
        let held = &HELD[self.me];
        let Some(node) = let_go(held) else {
            return;
        };
        // SAFETY: held by this worker.
        let link = unsafe { (*node).next.as_ptr() };
        let pushed = self.run(|slot| {
            let head = slot.head.load(Relaxed).expose_provenance();
            Some(Operation::CompareLinkAndStore {
                word: HEAD,
                expect: head,
                link,
                new: node.expose_provenance(),
            })
        });
        if pushed.is_err() {
            hold(held, node);
        }
    }

    fn pop_node(&self) {
        if let Ok(node) = self.run(|_| {
            Some(Operation::Pop {
                word: HEAD,
                empty: core::ptr::null_mut(),
                link: NEXT,
            })
        }) {
            hold(&HELD[self.me], node.cast());
        }
    }

    fn copy(&self) {
        let record = record(self.unique());
        let copied = self.run(|slot| {
            let count = slot.word.load(Relaxed);
            let at = BYTES + count % RECORDS * (WORDS * 8);
            let from = record.as_ptr().cast();
            Some(Operation::CompareCopyAndStore {
                word: WORD,
                expect: count,
                offset: at,
                source: from,
                length: WORDS * 8,
                new: count.wrapping_add(1),
            })
        });
        IN.fetch_add(1, Relaxed);
        if copied.is_err() {
            OUT.fetch_add(1, Relaxed);
        }
    }
}

fn record(value: usize) -> [usize; WORDS] {
    core::array::from_fn(|nth| value ^ mixed(nth))
}

/// Checks the sums when all have ended.
pub fn judge(kind: Kind) {
    let total = |word: fn(&Slot) -> usize| all().map(word).fold(0, usize::wrapping_add);
    let word = || total(|slot| slot.word.load(Relaxed));
    let far = || total(|slot| slot.far.load(Relaxed));
    let (sent, out) = (IN.load(Relaxed), OUT.load(Relaxed));
    let found = match kind {
        Kind::Add | Kind::CompareAndStore => word(),
        Kind::AddThrough => far(),
        Kind::CompareTwoAndStore => word().wrapping_add(far()),
        Kind::CompareStoreAndStore => total(|slot| {
            let left = slot.values.iter().take(slot.word.load(Relaxed));
            left.map(|value| mixed(value.load(Relaxed)))
                .fold(0, usize::wrapping_add)
        }),
        Kind::CompareCopyAndStore => {
            records();
            word()
        }
        Kind::LinkAndPop => {
            nodes();
            0
        }
        Kind::OwnSlab => own_sum::<Slabs>(),
        Kind::OwnEvents => own_sum::<Events>(),
    };
    let found = found.wrapping_add(out);
    assert_eq!(found, sent, "found in the slots and without, and sent");
}

fn own_sum<S: Subject>() -> usize {
    S::sum().expect("something half done")
}

/// No record is torn.
fn records() {
    for slot in all() {
        let count = slot.word.load(Relaxed);
        for (nth, words) in slot.records.iter().enumerate().take(count) {
            // The slot of the next one, where an aborted copy may have begun.
            if count >= RECORDS && nth == count % RECORDS {
                continue;
            }
            let first = words[0].load(Relaxed) ^ mixed(0);
            let whole = words
                .iter()
                .zip(record(first))
                .all(|(word, is)| word.load(Relaxed) == is);
            assert!(whole, "a torn record");
        }
    }
}

/// Each node is held by one thread or in one list.
fn nodes() {
    for list in all().map(|slot| &slot.head).chain(&HELD) {
        let mut at = list.load(Relaxed);
        // SAFETY: the lists link nodes of `NODE`, and no thread works on them.
        while let Some(node) = unsafe { at.as_ref() } {
            let found = node.found.fetch_add(1, Relaxed);
            assert_eq!(found, 0, "a node is there twice");
            at = core::ptr::with_exposed_provenance_mut(node.next.load(Relaxed));
        }
    }
    let lost = NODE
        .iter()
        .flatten()
        .filter(|node| node.found.load(Relaxed) == 0);
    let lost = lost.count();
    assert_eq!(lost, 0, "nodes are lost");
}
