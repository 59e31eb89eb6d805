//! Each stored pointer is taken exactly once.

use std::ptr::{NonNull, without_provenance_mut};
use std::sync::Mutex;

use rseq_rt::structures::{Buffer, BufferSlot, DrainError, Fence, Full, PopError};

use super::fake::{Alone, Fake, Kernel};
use super::world::{CPUS, FEW, Weather, explore, lock, switches, weather};

const ROOM: usize = 14;
type Pool<'a> = Buffer<'a, u32, ROOM>;

/// Never dereferenced, so that a number is enough.
fn number(pointer: NonNull<u32>) -> usize {
    pointer.addr().get()
}

fn pointer(number: usize) -> NonNull<u32> {
    NonNull::new(without_provenance_mut(number)).expect("not 0")
}

#[derive(Clone, Copy, Debug)]
enum Do {
    Push,
    Pop,
    Drain(usize),
    DrainOverflow,
}

use Do::{Drain, DrainOverflow, Pop, Push};

/// Actors by CPU, registered or not, and their actions; slot 0 and the overflow slot start with `filled` pointers each.
fn try_all(
    roles: &[(usize, bool, &[Do])],
    filled: usize,
    weather: Weather,
    fences: bool,
) -> Option<Vec<usize>> {
    let cpus: Vec<usize> = roles.iter().map(|role| role.0).collect();
    let (plans, wrong) = explore(weather, &cpus, fences, |world, start| {
        let slots = [const { BufferSlot::new() }; CPUS];
        let pool = Pool::new(&slots);
        let hands: Vec<_> = (0..roles.len())
            .map(|me| Mutex::new(vec![1000 + me]))
            .collect();
        let act = |here: Fake<'_>, what: Do| {
            let hand = |take: Vec<usize>| {
                lock(&hands[here.me]).extend(take);
            };
            match what {
                Push => {
                    let mine = lock(&hands[here.me]).pop();
                    if let Some(Full(back)) =
                        mine.and_then(|mine| pool.push(here, pointer(mine)).err())
                    {
                        hand(vec![number(back)]);
                    }
                }
                Pop => hand(pool.pop(here).into_iter().map(number).collect()),
                Drain(cpu) => {
                    let fence = Fence::register_on(Kernel::new(world, here.me));
                    let mut got = Vec::new();
                    let count = pool.drain(cpu, &fence, |pointer| got.push(number(pointer)));
                    assert!(count.is_err() || count == Ok(got.len()));
                    hand(got);
                }
                DrainOverflow => {
                    let mut got = Vec::new();
                    pool.drain_overflow(here, |pointer| got.push(number(pointer)));
                    hand(got);
                }
            }
        };
        let handler = |here: Fake<'_>| {
            act(here, Pop);
            act(here, Push);
        };
        let actor = |me: usize| {
            let here = Fake {
                handler: Some(&handler),
                unregistered: !roles[me].1,
                ..Fake::new(world, me)
            };
            if me == 0 {
                for number in 1..=filled {
                    pool.push(here, pointer(number)).expect("room");
                    pool.push(None::<Fake<'_>>, pointer(100 + number))
                        .expect("room");
                }
            }
            for &what in roles[me].2 {
                act(here, what);
            }
        };
        start(&actor);
        let mut all: Vec<usize> = hands
            .iter()
            .flat_map(|hand| std::mem::take(&mut *lock(hand)))
            .collect();
        for cpu in 0..CPUS {
            pool.drain(cpu, &Fence::register_on(Alone), |pointer| {
                all.push(number(pointer))
            })
            .expect("nobody else drains");
        }
        pool.drain_overflow(None::<Fake<'_>>, |pointer| all.push(number(pointer)));
        all.sort_unstable();
        let mut given: Vec<usize> = (1..=filled)
            .flat_map(|number| [number, 100 + number])
            .chain((0..roles.len()).map(|me| 1000 + me))
            .collect();
        given.sort_unstable();
        all == given
    });
    assert!(wrong.is_some() || plans > FEW, "{plans} plans");
    wrong
}

#[track_caller]
fn right(roles: &[(usize, bool, &[Do])], filled: usize, weather: Weather) {
    assert_eq!(try_all(roles, filled, weather, true), None);
}

#[test]
fn two_threads_of_one_cpu() {
    right(
        &[(0, true, &[Push, Pop]), (0, true, &[Pop, Push])],
        1,
        weather(2),
    );
}

#[test]
fn a_drain_beside_a_push_and_a_pop() {
    right(
        &[(0, true, &[Push, Pop]), (1, true, &[Drain(0)])],
        2,
        weather(2),
    );
    right(
        &[(0, true, &[Pop, Push]), (1, true, &[Drain(0), Drain(0)])],
        1,
        switches(3),
    );
    right(
        &[
            (0, true, &[Push]),
            (1, true, &[Drain(0)]),
            (1, false, &[Drain(0)]),
        ],
        1,
        switches(3),
    );
}

#[test]
fn registered_and_unregistered() {
    right(
        &[(0, true, &[Push, Pop]), (0, false, &[Push, Pop])],
        1,
        weather(2),
    );
    right(
        &[
            (0, false, &[Pop, Push]),
            (0, false, &[Pop]),
            (1, false, &[DrainOverflow]),
        ],
        2,
        switches(2),
    );
}

/// The broken variant: a kernel that answers 0 to the fence and aborts nothing.
#[test]
#[cfg_attr(miri, ignore = "too few plans there")]
fn without_the_fence_a_pointer_is_lost_or_given_twice() {
    for does in [[Push], [Pop]] {
        let roles: [(usize, bool, &[Do]); 2] = [(0, true, &does), (1, true, &[Drain(0)])];
        assert!(try_all(&roles, 2, switches(2), false).is_some(), "{does:?}");
    }
}

#[test]
fn full_and_empty_are_said() {
    let (_, wrong) = explore(Weather::default(), &[0], true, |world, start| {
        let slots = [const { BufferSlot::new() }; CPUS];
        let pool = Pool::new(&slots);
        start(&|me| {
            let here = Some(Fake::new(world, me));
            for here in [here, None] {
                assert_eq!(pool.pop(here), Err(PopError::Empty));
                for number in 1..=ROOM {
                    assert_eq!(pool.push(here, pointer(number)), Ok(()));
                }
                assert_eq!(pool.push(here, pointer(99)), Err(Full(pointer(99))));
            }
            let mut last = Vec::new();
            while let Ok(pointer) = pool.pop(here) {
                last.push(number(pointer));
            }
            assert_eq!(last.len(), 2 * ROOM, "the slot, and the overflow slot");
            assert!(
                last[..ROOM].is_sorted_by(|a, b| a > b),
                "last in, first out: {last:?}"
            );
            let fence = Fence::register_on(Kernel::new(world, me));
            let nothing = pool.drain(CPUS, &fence, |_| panic!("nothing is there"));
            assert_eq!(nothing, Err(DrainError::NoSuchSlot));
            assert_eq!(pool.drain(0, &fence, |_| panic!("nothing is there")), Ok(0));
        });
        true
    });
    assert_eq!(wrong, None);
}

#[test]
fn a_drain_inside_a_drain_is_busy() {
    let slots = [const { BufferSlot::new() }; CPUS];
    let pool = Pool::new(&slots);
    let (_, wrong) = explore(Weather::default(), &[0], true, |world, start| {
        start(&|me| {
            let here = Fake::new(world, me);
            pool.push(here, pointer(5)).expect("room");
            let fence = Fence::register_on(Kernel::new(world, me));
            let mut inner = Ok(0);
            let outer = pool.drain(0, &fence, |_| {
                inner = pool.drain(0, &fence, |_| panic!("taken already"));
                pool.push(here, pointer(6))
                    .expect("room in the overflow slot");
            });
            assert_eq!((outer, inner), (Ok(1), Err(DrainError::Busy)));
            assert_eq!(pool.pop(here).map(number), Ok(6));
        });
        true
    });
    assert_eq!(wrong, None);
}
