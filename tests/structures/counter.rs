//! Sums are exact.

use rseq_rt::percpu::{CpuId, Slots};
use rseq_rt::structures::{Counter, CounterSlot};

use super::fake::Fake;
use super::world::{CPUS, FEW, Weather, explore, switches, weather};

/// Actor `me` adds `100^me` twice and subtracts it once.
fn try_all(cpus: &[usize], unregistered: usize, unprotected: usize, weather: Weather) -> bool {
    let (plans, wrong) = explore(weather, cpus, true, |world, start| {
        let slots = [const { CounterSlot::new() }; CPUS];
        let counter = Counter::<'_, CpuId>::new(&slots);
        let handler = |here: Fake<'_>| counter.add(here, 0);
        let actor = |me: usize| {
            let here = Fake {
                handler: Some(&handler),
                unregistered: me == unregistered,
                unprotected: me == unprotected,
                ..Fake::new(world, me)
            };
            let value = 100_usize.pow(me as u32);
            counter.add(here, value);
            counter.sub(here, value);
            counter.add(here, value);
        };
        start(&actor);
        let expected = (0..cpus.len() as u32).map(|me| 100_usize.pow(me)).sum();
        counter.sum() == expected
    });
    assert!(wrong.is_some() || plans > FEW, "{plans} plans");
    wrong.is_none()
}

const NOBODY: usize = usize::MAX;

#[test]
fn registered_and_unregistered() {
    assert!(try_all(&[0, 0], NOBODY, NOBODY, weather(2)));
    assert!(try_all(&[0, 1, 0], 2, NOBODY, switches(3)));
}

/// The broken variant: a thread that the kernel does not abort adds to a slot.
#[test]
#[cfg_attr(miri, ignore = "too few plans there")]
fn a_thread_that_nobody_aborts_loses_a_part() {
    assert!(!try_all(&[0, 0], NOBODY, 0, switches(2)));
}

#[test]
fn beyond_the_slots_is_the_overflow_part() {
    let (_, wrong) = explore(Weather::default(), &[1], true, |world, start| {
        let slots = [const { CounterSlot::new() }; 1];
        let counter = Counter::over(Slots::<CpuId, _>::new(&slots).expect("one slot"));
        start(&|me| counter.add(Fake::new(world, me), 7));
        (counter.sum(), counter.overflowed()) == (7, 7)
    });
    assert_eq!(wrong, None);
}

#[test]
fn wraps() {
    let slots = [const { CounterSlot::new() }; CPUS];
    let counter = Counter::<'_, CpuId>::new(&slots);
    counter.sub(None::<Fake<'_>>, 1);
    assert_eq!(counter.sum(), usize::MAX);
    counter.add(None::<Fake<'_>>, 3);
    assert_eq!(counter.sum(), 2);
}
