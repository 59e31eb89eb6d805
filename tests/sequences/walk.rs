//! The walk over all sequences of a scenario.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use rseq_rt::{Area, ClearTid, Process};

use super::step::{Step, all};
use super::world::{Life, Scenario, World};
use crate::fake::Machine;

/// Walks every sequence of up to `depth` steps. Returns the number of distinct states.
pub fn walk(scenario: &Scenario, depth: usize) -> usize {
    if cfg!(miri) {
        return stroll(scenario);
    }
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

/// Miri is too slow for all of them: it runs one long sequence instead, the same in every run.
fn stroll(scenario: &Scenario) -> usize {
    let steps: Vec<Step> = all().collect();
    // Knuth's multiplier. Scenarios with the same name differ by the kernel's answers, so one seed serves all.
    let mut seed = 1u64;
    let mut draw = || {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        steps[(seed >> 33) as usize % steps.len()]
    };
    // A step that is not possible changes nothing.
    let mut path = vec![Step::Init];
    path.extend((0..STROLL).map(|_| draw()));
    replay(scenario, &path);
    STROLL
}

/// Steps that Miri takes in one scenario.
const STROLL: usize = 20;

/// Runs one sequence from the start. Returns whether the last step was possible, and the state it led to.
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
    // SAFETY: Handler::attach (1): all of them live to the end of this function, the last use of `machine`.
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
