//! The fork child's view: threads stopped at any step do not exist there, and the structure works all the same.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::Mutex;

use rseq_rt::Errno;
use rseq_rt::structures::{
    Buffer, BufferSlot, Bytes, BytesSlot, Fence, FreeList, ListSlot, Membarrier, Node, PopError,
    ThreadSections,
};

use super::fake::{Alone, Fake};
use super::world::{CPUS, FEW, Weather, explore, lock};

const NOBODY: Option<Fake<'_>> = None;

/// The actors of the parent, each of which the plan stops for ever at some step, or lets end.
fn stops(departures: usize) -> Weather {
    Weather {
        departures,
        handlers: true,
        ..Weather::default()
    }
}

/// Runs `act`, which a handler terminates: only the thread's stores remain.
fn until_it_vanishes(act: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(act));
}

fn vanish(_: Fake<'_>) {
    resume_unwind(Box::new(()));
}

/// The fence of an actor that may vanish before or after it.
#[derive(Clone, Copy)]
struct Stopping<'w>(Fake<'w>);

// SAFETY: Membarrier (1): it aborts those sections.
unsafe impl Membarrier for Stopping<'_> {
    fn membarrier(&self, command: u32, _: u32, cpu: u32) -> Result<(), Errno> {
        // MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ
        if command != 256 {
            self.0.between();
            self.0.world.fence(self.0.me, Some(cpu as usize));
            self.0.between();
        }
        Ok(())
    }

    fn visit(&self, _: u32) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }
}

/// The action of an actor, by slots or, unregistered, by the overflow slot.
#[derive(Clone, Copy, PartialEq)]
enum Do {
    Push,
    Pop,
    Drain,
    DrainOverflow,
}

use Do::{Drain, DrainOverflow, Pop, Push};

/// A structure of numbered items, used by actors and then by the child.
trait Subject: Sync {
    fn act(&self, here: Fake<'_>, what: Do, hand: &Mutex<Vec<usize>>);
    fn fill(&self, here: Option<Fake<'_>>, id: usize);
    /// # Safety
    /// 1. As for `repair_in_fork_child`: no actor is left.
    unsafe fn repair(&self);
    /// All items in it, by operations that a child may use; `None` if one fails.
    fn child(&self) -> Option<Vec<usize>>;
}

/// Each actor does one thing, and may vanish in it. Returns the number of plans, and the first whose child was wrong: a
/// duplicated item, more than `lost` missing ones, or a failing operation. Three items are in CPU 0's slot, three in
/// the overflow slot, and each actor may push one.
fn try_all<S: Subject>(
    make: impl Fn() -> S,
    roles: &[(usize, bool, Do)],
    lost: usize,
    repaired: bool,
) -> (usize, Option<Vec<usize>>) {
    let cpus: Vec<usize> = roles.iter().map(|&(cpu, ..)| cpu).collect();
    explore(stops(2), &cpus, true, |world, start| {
        let subject = make();
        let hand = Mutex::new(Vec::new());
        for id in 3..6 {
            subject.fill(NOBODY, id);
        }
        let actor = |me: usize| {
            let (_, unregistered, what) = roles[me];
            let here = Fake {
                unregistered,
                ..Fake::new(world, me)
            };
            if me == 0 {
                let filling = Fake {
                    unregistered: false,
                    ..here
                };
                (0..3).for_each(|id| subject.fill(Some(filling), id));
            }
            let here = Fake {
                handler: Some(&vanish),
                ..here
            };
            until_it_vanishes(|| subject.act(here, what, &hand));
        };
        start(&actor);
        if repaired {
            // SAFETY: repair (1): all have ended or vanished.
            unsafe { subject.repair() };
        }
        let Some(left) = subject.child() else {
            return false;
        };
        let mut all = hand.into_inner().expect("no panic inside");
        all.extend(left);
        let found = all.len();
        all.sort_unstable();
        all.dedup();
        let pushed = roles.iter().filter(|role| role.2 == Push).count();
        found == all.len() && found + lost >= 6 + pushed
    })
}

/// Correct with the repair; without it some plan is wrong, if `needed`.
#[track_caller]
fn repaired<S: Subject>(
    make: impl Fn() -> S + Copy,
    roles: &[(usize, bool, Do)],
    lost: usize,
    needed: bool,
) {
    let (plans, wrong) = try_all(make, roles, lost, true);
    assert_eq!(wrong, None, "after {plans} plans");
    assert!(plans > FEW, "{plans} plans");
    let (plans, wrong) = try_all(make, roles, lost, false);
    assert!(
        wrong.is_some() || !needed,
        "without the repair nothing was wrong in {plans} plans"
    );
}

/// The item that an actor pushes.
fn pushed(me: usize) -> usize {
    6 + me
}

struct List {
    list: FreeList<'static, usize>,
    nodes: Mutex<Vec<Option<&'static mut Node<usize>>>>,
}

impl List {
    fn new() -> Self {
        let slots = Box::leak(Box::new([const { ListSlot::new() }; CPUS]));
        let node = |id| Some(&mut *Box::leak(Box::new(Node::new(id))));
        Self {
            // SAFETY: new (1) slots of its own.
            list: unsafe { FreeList::new(slots) },
            nodes: Mutex::new((0..9).map(node).collect()),
        }
    }

    fn node(&self, id: usize) -> &'static mut Node<usize> {
        let mut nodes = lock(&self.nodes);
        nodes[id].take().expect("pushed once")
    }
}

impl Subject for List {
    fn act(&self, here: Fake<'_>, what: Do, hand: &Mutex<Vec<usize>>) {
        let got: Vec<usize> = match what {
            Push => {
                self.list.push(here, self.node(pushed(here.me)));
                return;
            }
            Pop => self.list.pop(here).iter().map(|node| node.value).collect(),
            Drain => {
                let taken = self.list.take(0, &Fence::register_on(Stopping(here)));
                taken.into_iter().flatten().map(|node| node.value).collect()
            }
            DrainOverflow => self.list.take_overflow().map(|node| node.value).collect(),
        };
        lock(hand).extend(got);
    }

    fn fill(&self, here: Option<Fake<'_>>, id: usize) {
        self.list.push(here, self.node(id));
    }

    unsafe fn repair(&self) {
        // SAFETY: repair_in_fork_child (1, 2) by (1).
        unsafe { self.list.repair_in_fork_child() };
    }

    fn child(&self) -> Option<Vec<usize>> {
        let mut left = Vec::new();
        while let Ok(node) = self.list.pop(NOBODY) {
            left.push(node.value);
        }
        // Not busy: there is no other thread.
        if self.list.pop(NOBODY).err() != Some(PopError::Empty) {
            return None;
        }
        for _ in 0..2 {
            for cpu in 0..CPUS {
                let taken = self.list.take(cpu, &Fence::register_on(Alone)).ok()?;
                left.extend(taken.take(10).map(|node| node.value));
            }
        }
        Some(left)
    }
}

struct Pointers(Buffer<'static, usize, 14>);

impl Pointers {
    fn new() -> Self {
        let slots = Box::leak(Box::new([const { BufferSlot::new() }; CPUS]));
        Self(Buffer::new(slots))
    }

    fn pointer(id: usize) -> NonNull<usize> {
        NonNull::from(Box::leak(Box::new(id)))
    }
}

/// The number of a pointer.
fn id(pointer: NonNull<usize>) -> usize {
    // SAFETY: leaked by `Pointers::pointer`.
    unsafe { *pointer.as_ref() }
}

impl Subject for Pointers {
    fn act(&self, here: Fake<'_>, what: Do, hand: &Mutex<Vec<usize>>) {
        let give = |pointer: NonNull<usize>| {
            lock(hand).push(id(pointer));
            here.between();
        };
        match what {
            Push => {
                let _ = self.0.push(here, Self::pointer(pushed(here.me)));
            }
            Pop => self.0.pop(here).into_iter().for_each(give),
            Drain => {
                let fence = Fence::register_on(Stopping(here));
                let _ = self.0.drain(0, &fence, give);
            }
            DrainOverflow => {
                self.0.drain_overflow(here, give);
            }
        }
    }

    fn fill(&self, here: Option<Fake<'_>>, id: usize) {
        self.0.push(here, Self::pointer(id)).expect("room");
    }

    unsafe fn repair(&self) {
        // SAFETY: repair_in_fork_child (1, 2) by (1).
        unsafe { self.0.repair_in_fork_child() };
    }

    fn child(&self) -> Option<Vec<usize>> {
        let mut left = Vec::new();
        self.0
            .drain_overflow(NOBODY, |pointer| left.push(id(pointer)));
        for _ in 0..2 {
            for cpu in 0..CPUS {
                let fence = Fence::register_on(Alone);
                let each = |pointer| left.push(id(pointer));
                self.0.drain(cpu, &fence, each).ok()?;
            }
        }
        Some(left)
    }
}

struct Log(Bytes<'static, 112>);

impl Log {
    fn new() -> Self {
        let slots = Box::leak(Box::new([const { BytesSlot::new() }; CPUS]));
        // SAFETY: new (1) slots of its own.
        Self(unsafe { Bytes::new(slots) })
    }
}

fn record(id: usize) -> [u8; 2] {
    [id as u8, id as u8 ^ 0xff]
}

/// The ids in whole records, and 99 for an invalid one.
fn ids(bytes: &[u8]) -> Vec<usize> {
    let (records, rest) = bytes.as_chunks::<2>();
    let of = |bytes: &[u8; 2]| {
        let id = bytes[0].into();
        if *bytes == record(id) { id } else { 99 }
    };
    let rest = rest.iter().map(|_| 99);
    records.iter().map(of).chain(rest).collect()
}

impl Subject for Log {
    fn act(&self, here: Fake<'_>, what: Do, hand: &Mutex<Vec<usize>>) {
        let give = |bytes: &[u8]| {
            here.between();
            let found = ids(bytes);
            lock(hand).extend(found);
            here.between();
        };
        match what {
            Push => {
                let _ = self.0.push(here, &record(pushed(here.me)));
            }
            Drain => {
                let fence = Fence::register_on(Stopping(here));
                let _ = self.0.drain(0, &fence, give);
            }
            DrainOverflow => {
                let _ = self.0.drain_overflow(give);
            }
            Pop => {}
        }
    }

    fn fill(&self, here: Option<Fake<'_>>, id: usize) {
        self.0.push(here, &record(id)).expect("room");
    }

    unsafe fn repair(&self) {
        // SAFETY: repair_in_fork_child (1, 2) by (1).
        unsafe { self.0.repair_in_fork_child() };
    }

    fn child(&self) -> Option<Vec<usize>> {
        let mut left = Vec::new();
        self.0
            .drain_overflow(|bytes| left.extend(ids(bytes)))
            .ok()?;
        for _ in 0..2 {
            for cpu in 0..CPUS {
                let fence = Fence::register_on(Alone);
                let each = |bytes: &[u8]| left.extend(ids(bytes));
                self.0.drain(cpu, &fence, each).ok()?;
            }
        }
        // There is room again.
        self.0.push(NOBODY, &[0; 112]).ok()?;
        self.0.drain_overflow(|_| ()).ok()?;
        Some(left)
    }
}

#[test]
fn slots_of_a_list() {
    // Nothing for a drain. A pop that finds the slot closed briefly holds the overflow slot, which may have everything.
    repaired(List::new, &[(0, false, Drain), (1, false, Drain)], 0, true);
    repaired(List::new, &[(0, false, Pop), (1, false, Drain)], 6, true);
    // A push that does not return holds its node.
    repaired(List::new, &[(0, false, Push), (1, false, Drain)], 1, true);
}

#[test]
fn the_overflow_slot_of_a_list() {
    // A pop holds all three for a while.
    repaired(List::new, &[(0, true, Pop)], 3, true);
    repaired(List::new, &[(0, true, Pop), (1, true, Push)], 4, true);
    repaired(
        List::new,
        &[(0, true, Push), (1, true, DrainOverflow)],
        1,
        false,
    );
}

#[test]
fn slots_of_a_buffer() {
    // The first two that a drain has not yet passed to its closure.
    let roles = [(0, false, Pop), (1, false, Drain)];
    repaired(Pointers::new, &roles, 2, true);
    let roles = [(0, false, Push), (1, false, Drain)];
    repaired(Pointers::new, &roles, 4, true);
}

#[test]
fn the_overflow_slot_of_a_buffer() {
    repaired(Pointers::new, &[(0, true, Push), (1, true, Pop)], 1, false);
    repaired(
        Pointers::new,
        &[(0, true, Pop), (1, true, DrainOverflow)],
        1,
        false,
    );
}

#[test]
fn slots_of_bytes() {
    // Those that the drain has taken, and the overflow slot's, if the push that found the slot closed stopped there.
    let roles = [(0, false, Push), (1, false, Drain)];
    repaired(Log::new, &roles, 7, true);
    let roles = [(0, false, Drain), (1, false, Drain)];
    repaired(Log::new, &roles, 3, true);
}

#[test]
fn the_overflow_slot_of_bytes() {
    let roles = [(0, true, Push), (1, true, Push)];
    repaired(Log::new, &roles, 5, true);
    let roles = [(0, true, Push), (1, true, DrainOverflow)];
    repaired(Log::new, &roles, 4, true);
}

/// The repair keeps records that a drain has not taken yet, and drops those it has taken, although they look intact.
#[test]
fn a_drain_before_and_after_it_has_taken() {
    for (at_step, kept) in [(1, 3), (2, 3), (3, 0)] {
        let log = Log::new();
        let steps = Mutex::new(0);
        let (_, wrong) = explore(Weather::default(), &[0], true, |world, start| {
            start(&|me| {
                let here = Fake::new(world, me);
                (0..3).for_each(|id| log.fill(Some(here), id));
                let step = || {
                    let mut step = lock(&steps);
                    *step += 1;
                    *step == at_step
                };
                let vanish = |yes: bool| {
                    if yes {
                        resume_unwind(Box::new(()));
                    }
                };
                until_it_vanishes(|| {
                    let around = || vanish(step());
                    let fence = Fence::register_on(Steps(&around));
                    let _ = log.0.drain(0, &fence, |_| vanish(step()));
                });
            });
            true
        });
        assert_eq!(wrong, None);
        // SAFETY: repair (1): the one actor has ended.
        unsafe { log.repair() };
        let left = log.child().map(|left| left.len());
        assert_eq!(left, Some(kept), "at step {at_step}");
    }
}

/// A fence with a step before and after it.
#[derive(Clone, Copy)]
struct Steps<'a>(&'a dyn Fn());

// SAFETY: Membarrier (1): there is one thread.
unsafe impl Membarrier for Steps<'_> {
    fn membarrier(&self, command: u32, _: u32, _: u32) -> Result<(), Errno> {
        if command != 256 {
            (self.0)();
            (self.0)();
        }
        Ok(())
    }

    fn visit(&self, _: u32) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }
}
