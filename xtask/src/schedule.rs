//! Runs the jobs: those that want the machine for themselves one by one, the
//! emulated machines two at a time.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use crate::families::{Job, Lane};
use crate::lab::Lab;
use crate::matrix::Counts;
use crate::outcome::Outcome;
use crate::place::Place;

/// Emulated machines at a time.
const BOOTS: usize = 2;

/// Runs all of `jobs` and returns what they yielded.
pub fn run(lab: &Lab, jobs: Vec<Job<'_>>) -> Vec<Outcome> {
    let (alone, boots): (Vec<_>, Vec<_>) =
        jobs.into_iter().partition(|job| job.lane == Lane::Alone);
    let total = alone.len() + boots.len();
    let outcomes = Mutex::new(Vec::new());
    let number = Mutex::new(0);
    let one = |job: Job<'_>| {
        let started = Instant::now();
        let step = lab.progress.step(format!("{} ...", job.title));
        let yielded = (job.work)();
        drop(step);
        let counts = Counts::of(&yielded).line();
        let mut number = number
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *number += 1;
        lab.progress.say(format!(
            "{number}/{total} {}: {counts} ({:.1} s)",
            job.title,
            started.elapsed().as_secs_f64()
        ));
        outcomes
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .extend(yielded);
    };
    let places: Vec<Place> = boots.iter().filter_map(|job| job.boots.clone()).collect();
    let queue = Mutex::new(VecDeque::from(boots));
    let next = || {
        queue
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .pop_front()
    };
    thread::scope(|scope| {
        // The network beside the compilers. Whoever needs one earlier waits for it.
        scope.spawn(|| places.iter().for_each(|place| lab.prefetch(place)));
        for job in alone {
            one(job);
        }
        for _ in 0..BOOTS {
            scope.spawn(|| {
                while let Some(job) = next() {
                    one(job);
                }
            });
        }
    });
    let mut outcomes = outcomes
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    outcomes.sort_by(|a: &Outcome, b| a.cell.cmp(&b.cell));
    outcomes
}
