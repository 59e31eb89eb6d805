//! `slab::sections` of the example, with its lines in the same order.

use super::ABORTS;
use super::check::{Check, End, Stops};

const ROOM: usize = 5;
const CPUS: usize = 2;

#[derive(Clone)]
struct Slab {
    count: usize,
    items: [usize; ROOM],
}

type Slabs = [Slab; CPUS];

/// Slabs with `count` items on each CPU, and stale data behind them.
fn slabs(count: usize) -> Slabs {
    let slab = |cpu| Slab {
        count,
        items: std::array::from_fn(|nth| 100 * cpu + nth),
    };
    std::array::from_fn(slab)
}

/// Items behind the count are unused.
fn view(slabs: &Slabs) -> Vec<Vec<usize>> {
    let items = |slab: &Slab| slab.items[..slab.count].to_vec();
    slabs.iter().map(items).collect()
}

fn push(slab: &mut Slab, batch: &[usize], stops: &mut Stops) -> Result<(), End> {
    stops.here()?;
    let to = slab.count;
    let count = to + batch.len();
    if count > ROOM {
        return Err(End::Differs);
    }
    stops.here()?;
    for i in (0..batch.len()).rev() {
        slab.items[to + i] = batch[i];
        stops.here()?;
    }
    slab.count = count;
    Ok(())
}

fn pop(slab: &mut Slab, batch: &mut [usize], stops: &mut Stops) -> Result<usize, End> {
    stops.here()?;
    let taken = slab.count.min(batch.len());
    if taken == 0 {
        return Err(End::Differs);
    }
    stops.here()?;
    let from = slab.count - taken;
    for i in (0..taken).rev() {
        batch[i] = slab.items[from + i];
        stops.here()?;
    }
    slab.count = from;
    Ok(taken)
}

fn others_push(slabs: &mut Slabs, cpu: usize) {
    let _ = push(&mut slabs[cpu], &[91, 92], &mut Stops::none());
}

fn others_pop(slabs: &mut Slabs, cpu: usize) {
    let _ = pop(&mut slabs[cpu], &mut [0; 1], &mut Stops::none());
}

fn others_take_all(slabs: &mut Slabs, cpu: usize) {
    let _ = pop(&mut slabs[cpu], &mut [0; ROOM], &mut Stops::none());
}

/// Starts from each number of items.
fn check<A: PartialEq + std::fmt::Debug>(
    section: &dyn Fn(&mut Slabs, usize, &mut Stops) -> Result<A, End>,
) -> Result<usize, String> {
    let check = Check {
        cpus: CPUS,
        section,
        view: &view,
        actions: &[&others_push, &others_pop, &others_take_all],
    };
    (0..=ROOM)
        .map(|count| check.run(&slabs(count), ABORTS))
        .sum()
}

#[test]
fn a_push_that_is_aborted_leaves_no_trace() {
    let runs = check(&|slabs, cpu, stops| push(&mut slabs[cpu], &[1, 2, 3], stops));
    assert!(runs.unwrap() > 100);
}

#[test]
fn a_pop_that_is_aborted_leaves_no_trace() {
    let runs = check(&|slabs, cpu, stops| {
        let mut batch = [0; 3];
        let taken = pop(&mut slabs[cpu], &mut batch, stops)?;
        Ok(batch[..taken].to_vec())
    });
    assert!(runs.unwrap() > 100);
}

#[test]
fn a_count_before_its_items_is_found() {
    let broken = |slabs: &mut Slabs, cpu: usize, stops: &mut Stops| {
        let slab = &mut slabs[cpu];
        let to = slab.count;
        if to + 3 > ROOM {
            return Err(End::Differs);
        }
        slab.count = to + 3;
        stops.here()?;
        for i in 0..3 {
            slab.items[to + i] = 7;
            stops.here()?;
        }
        Ok(())
    };
    let found = check(&broken).unwrap_err();
    assert!(found.starts_with("aborted at stop 0"), "{found}");
}

#[test]
fn items_over_those_that_are_there_are_found() {
    let broken = |slabs: &mut Slabs, cpu: usize, stops: &mut Stops| {
        let slab = &mut slabs[cpu];
        if slab.count + 1 > ROOM {
            return Err(End::Differs);
        }
        let below = slab.count.saturating_sub(1);
        slab.items[below] += 1;
        stops.here()?;
        slab.count += 1;
        Ok(())
    };
    assert!(check(&broken).is_err());
}

#[test]
fn a_number_that_outlives_its_try_is_found() {
    // The place is kept in the caller's memory, and is not loaded again.
    type Memory = (Slabs, Option<usize>);
    let broken = |(slabs, place): &mut Memory, cpu: usize, stops: &mut Stops| {
        let to = *place.get_or_insert(slabs[cpu].count);
        stops.here()?;
        *place = None;
        if to == ROOM {
            return Err(End::Differs);
        }
        slabs[cpu].items[to] = 7;
        slabs[cpu].count = to + 1;
        Ok(())
    };
    let check = Check {
        cpus: CPUS,
        section: &broken,
        view: &|(slabs, _)| view(slabs),
        actions: &[&|(slabs, _), cpu| others_push(slabs, cpu)],
    };
    assert!(check.run(&(slabs(0), None), ABORTS).is_err());
}
