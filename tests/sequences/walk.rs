//! The walk over all sequences of a scenario.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use rseq_rt::{Area, ClearTid, Process};

use crate::fake::Machine;
use crate::step::{Step, all};
use crate::world::{Life, Scenario, World};

/// How far Miri can walk in reasonable time.
pub const fn depth(native: usize) -> usize {
    if cfg!(miri) { 2 } else { native }
}

/// Walks every sequence of up to `depth` steps. Returns how many different states there were.
pub fn walk(scenario: &Scenario, depth: usize) -> usize {
    let mut seen = HashSet::from([replay(scenario, &[]).1]);
    let mut frontier: Vec<Vec<Step>> = vec![vec![]];
    for _ in 0..depth {
        let mut next = vec![];
        for path in &frontier {
            for step in all() {
                let mut longer = path.clone();
                longer.push(step);
                let (possible, state) = replay(scenario, &longer);
                if possible && seen.insert(state) {
                    next.push(longer);
                }
            }
        }
        frontier = next;
    }
    seen.len()
}

/// Runs one sequence from the start. Was the last step possible, and where did it lead?
fn replay(scenario: &Scenario, path: &[Step]) -> (bool, u64) {
    let run = AssertUnwindSafe(|| replay_unguarded(scenario, path));
    catch_unwind(run).unwrap_or_else(|panic| {
        eprintln!("{scenario:#?}\n{path:?}");
        resume_unwind(panic)
    })
}

fn replay_unguarded(scenario: &Scenario, path: &[Step]) -> (bool, u64) {
    let machine = Machine::new(scenario.generation, scenario.answers);
    machine.boot(scenario.mask);
    let process = Process::with_kernel(&machine);
    let areas = [Area::new(), Area::new()];
    let clear_tids = [ClearTid::new(), ClearTid::new()];
    // SAFETY: Handler::attach (1): all of them live to the end of this function, and `machine` is used no longer.
    unsafe { machine.handler.attach(&process, &areas) };
    machine.handler.turn(scenario.signals);
    let mut world = World {
        scenario,
        machine: &machine,
        process: &process,
        areas: &areas,
        clear_tids: &clear_tids,
        lives: [Life::Bare, Life::Bare],
        initialized: false,
        renewed: [false; 2],
    };
    let mut possible = true;
    for &step in path {
        possible = world.step(step);
    }
    (possible, world.fingerprint())
}
