//! Each node given to the list is in exactly one place at the end.

use std::sync::Mutex;

use rseq_rt::structures::{DrainError, Fence, FreeList, ListSlot, Node, PopError};

use super::fake::{Alone, Fake, Kernel};
use super::world::{CPUS, FEW, Weather, World, explore, lock, switches, weather};

type List<'n> = FreeList<'n, u32>;

#[derive(Clone, Copy, Debug)]
enum Do {
    Push,
    Pop,
    Take(usize),
    TakeOverflow,
}

use Do::{Pop, Push, Take, TakeOverflow};

/// One actor: its CPU, kind and action.
#[derive(Clone, Copy)]
struct Role {
    cpu: usize,
    kind: Kind,
    does: &'static [Do],
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Registered,
    Unregistered,
    /// Broken on purpose: unknown to the kernel, but using the slots.
    Unprotected,
}

const fn on(cpu: usize, does: &'static [Do]) -> Role {
    Role {
        cpu,
        kind: Kind::Registered,
        does,
    }
}

const fn unregistered(does: &'static [Do]) -> Role {
    Role {
        cpu: 1,
        kind: Kind::Unregistered,
        does,
    }
}

/// The nodes outside of the list that one actor holds.
type Hand<'n> = Mutex<Vec<&'n mut Node<u32>>>;

fn act<'n>(list: &List<'n>, here: Fake<'_>, hand: &Hand<'n>, what: Do) {
    let world: &World = here.world;
    match what {
        Push => {
            let node = lock(hand).pop();
            if let Some(node) = node {
                list.push(here, node);
            }
        }
        Pop => {
            if let Ok(node) = list.pop(here) {
                lock(hand).push(node);
            }
        }
        Take(cpu) => {
            let fence = Fence::register_on(Kernel::new(world, here.me));
            if let Ok(chain) = list.take(cpu, &fence) {
                lock(hand).extend(chain);
            }
        }
        TakeOverflow => lock(hand).extend(list.take_overflow()),
    }
}

/// Runs the roles in every order, with `filled` nodes in CPU 0's slot and one held by each actor.
fn try_all(
    roles: &[Role],
    filled: u32,
    spilled: u32,
    weather: Weather,
    fences: bool,
) -> (usize, Option<Vec<usize>>) {
    let cpus: Vec<usize> = roles.iter().map(|role| role.cpu).collect();
    explore(weather, &cpus, fences, |world, start| {
        let count = filled + spilled + roles.len() as u32;
        let mut nodes: Vec<Node<u32>> = (0..count).map(Node::new).collect();
        let slots = [const { ListSlot::new() }; CPUS];
        // SAFETY: new (1) slots of its own.
        let list = unsafe { List::new(&slots) };
        let mut nodes = nodes.iter_mut();
        let hands: Vec<Hand<'_>> = roles
            .iter()
            .map(|_| Mutex::new(nodes.next().into_iter().collect()))
            .collect();
        fill(&list, &mut nodes, spilled as usize);
        // Actor 0 has the first turn, on CPU 0, before any departure is allowed.
        let prepared = Mutex::new(nodes.collect::<Vec<_>>());
        let handler = |here: Fake<'_>| {
            act(&list, here, &hands[here.me], Pop);
            act(&list, here, &hands[here.me], Push);
        };
        let actor = |me: usize| {
            let role = roles[me];
            let here = Fake {
                handler: Some(&handler),
                unregistered: role.kind == Kind::Unregistered,
                unprotected: role.kind == Kind::Unprotected,
                ..Fake::new(world, me)
            };
            if me == 0 {
                for node in lock(&prepared).drain(..) {
                    list.push(here, node);
                }
            }
            for &what in role.does {
                act(&list, here, &hands[me], what);
            }
        };
        start(&actor);
        let mut all: Vec<u32> = hands
            .into_iter()
            .flat_map(|hand| hand.into_inner().expect("no panic inside"))
            .map(|node| node.value)
            .collect();
        all.extend(rest(&list, count as usize));
        all.sort_unstable();
        all == (0..count).collect::<Vec<_>>()
    })
}

/// Nodes for the overflow slot.
fn fill<'n>(list: &List<'n>, nodes: &mut impl Iterator<Item = &'n mut Node<u32>>, count: usize) {
    for node in nodes.take(count) {
        list.push(None::<Fake<'_>>, node);
    }
}

/// The nodes left in the list, once it is idle. A broken list may be a ring.
fn rest(list: &List<'_>, at_most: usize) -> Vec<u32> {
    let mut left = Vec::new();
    for cpu in 0..CPUS {
        let looked = list.looks_empty(Some(cpu));
        let chain = list.take(cpu, &Fence::register_on(Alone));
        let chain = chain.expect("nobody else drains");
        assert_eq!(looked, chain.is_empty(), "a slot that nobody changes");
        left.extend(chain.take(at_most + 1).map(|node| node.value));
    }
    let looked = list.looks_empty(None);
    let chain = list.take_overflow();
    assert_eq!(looked, chain.is_empty(), "nobody changes it");
    left.extend(chain.take(at_most + 1).map(|node| node.value));
    assert!(list.looks_empty(None) && list.looks_empty(Some(CPUS)));
    left
}

#[track_caller]
fn right(roles: &[Role], filled: u32, spilled: u32, weather: Weather) {
    let (plans, wrong) = try_all(roles, filled, spilled, weather, true);
    assert_eq!(wrong, None, "after {plans} plans");
    assert!(plans > FEW, "{plans} plans");
}

#[track_caller]
fn wrong(roles: &[Role], filled: u32, spilled: u32, weather: Weather, fences: bool) {
    let (plans, wrong) = try_all(roles, filled, spilled, weather, fences);
    assert!(wrong.is_some(), "the broken variant survived {plans} plans");
}

#[test]
fn two_threads_of_one_cpu() {
    right(
        &[on(0, &[Push, Pop]), on(0, &[Pop, Push])],
        2,
        0,
        weather(2),
    );
}

#[test]
fn a_drain_beside_a_push_and_a_pop() {
    right(&[on(0, &[Push, Pop]), on(1, &[Take(0)])], 2, 0, weather(2));
    right(&[on(0, &[Pop, Push]), on(1, &[Take(0)])], 1, 0, weather(2));
    right(
        &[on(0, &[Pop, Pop]), on(1, &[Take(0), Take(0)])],
        2,
        0,
        switches(3),
    );
}

#[test]
fn a_drain_beside_two_threads() {
    let roles = [on(0, &[Push, Pop]), on(0, &[Pop]), on(1, &[Take(0)])];
    right(&roles, 2, 0, switches(2));
}

#[test]
fn two_drains() {
    right(
        &[on(0, &[Push]), on(1, &[Take(0)]), on(1, &[Take(0)])],
        2,
        0,
        switches(3),
    );
}

#[test]
fn registered_and_unregistered() {
    right(
        &[on(0, &[Push, Pop]), unregistered(&[Push, Pop])],
        1,
        1,
        weather(2),
    );
    right(
        &[unregistered(&[Pop, Push]), on(0, &[Pop, Pop])],
        0,
        2,
        weather(2),
    );
}

/// Only the overflow slot: two pop and push their nodes back, while a third changes it.
#[test]
fn the_overflow_slot() {
    let pops = [
        unregistered(&[Pop, Push]),
        unregistered(&[Pop, Pop]),
        unregistered(&[Push]),
    ];
    right(&pops, 0, 3, switches(3));
    let takes = [
        unregistered(&[Pop]),
        unregistered(&[Push, Pop]),
        unregistered(&[TakeOverflow]),
    ];
    right(&takes, 0, 3, switches(3));
}

/// The broken variant: a kernel that answers 0 to the fence and aborts nothing.
#[test]
#[cfg_attr(miri, ignore = "too few plans there")]
fn without_the_fence_a_node_is_lost_or_given_twice() {
    wrong(
        &[on(0, &[Pop]), on(1, &[Take(0)])],
        2,
        0,
        switches(2),
        false,
    );
    wrong(
        &[on(0, &[Push]), on(1, &[Take(0)])],
        2,
        0,
        switches(2),
        false,
    );
}

/// The broken variant: an unregistered thread that uses a CPU's slot as if it were registered.
#[test]
#[cfg_attr(miri, ignore = "too few plans there")]
fn a_thread_that_nobody_aborts_loses_a_node() {
    let roles = [
        Role {
            kind: Kind::Unprotected,
            ..on(0, &[Pop])
        },
        on(0, &[Pop]),
    ];
    wrong(&roles, 2, 0, switches(2), true);
}

#[test]
fn last_in_first_out_and_empty_is_said() {
    let (_, wrong) = explore(Weather::default(), &[0], true, |world, start| {
        let slots = [const { ListSlot::new() }; CPUS];
        let mut nodes = [Node::new(0), Node::new(1)];
        let given = Mutex::new(nodes.iter_mut().collect::<Vec<_>>());
        // SAFETY: new (1) slots of its own.
        let list = unsafe { List::new(&slots) };
        start(&|me| {
            let here = Fake::new(world, me);
            assert_eq!(list.pop(here).err(), Some(PopError::Empty));
            for node in lock(&given).drain(..) {
                list.push(here, node);
            }
            assert_eq!(
                list.pop(None::<Fake<'_>>).err(),
                Some(PopError::Empty),
                "not its slot"
            );
            assert_eq!(list.pop(here).map(|node| node.value), Ok(1));
            assert_eq!(list.pop(here).map(|node| node.value), Ok(0));
            assert_eq!(list.pop(here).err(), Some(PopError::Empty));
            let fence = Fence::register_on(Kernel::new(world, me));
            assert_eq!(list.take(CPUS, &fence).err(), Some(DrainError::NoSuchSlot));
        });
        true
    });
    assert_eq!(wrong, None);
}
