//! Runs the jobs concurrently, as many as this machine has processors for.
//!
//! Jobs that run programs on this machine itself go one by one; beside them, one by one, those that check sources and files. An
//! emulated machine whose processors are threads is given as many processors: with fewer, each of its spin locks waits
//! for a thread that does not run, and two of them on two processors took six times as long as one after the other.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crate::case::{Job, Kind, Record};
use crate::context::Context;
use crate::machine::boot;
use crate::matrix::Counts;
use crate::process::lock;

/// Runs all `jobs` and returns their records.
pub fn run(cx: &Context, jobs: Vec<Job>) -> Vec<Record> {
    let places: Vec<_> = jobs.iter().filter_map(Job::boots).collect();
    let builds: Vec<_> = jobs.iter().flat_map(Job::builds).collect();
    let total = jobs.len();
    let all = thread::available_parallelism().map_or(1, |all| all.get());
    let waiting = Waiting::new(jobs, all);
    // The number of finished jobs, and their records.
    let ended = Mutex::new((0, Vec::new()));
    let one = |job: Job| {
        let started = Instant::now();
        let title = job.title.clone();
        let step = cx.step(format!("{title} ..."));
        let records = job.run(cx);
        drop(step);
        let counts = Counts::of(&records).line();
        let mut ended = lock(&ended);
        ended.0 += 1;
        let (number, seconds) = (ended.0, started.elapsed().as_secs_f64());
        cx.say(format!(
            "{number}/{total} {title}: {counts} ({seconds:.1} s)"
        ));
        ended.1.extend(records);
    };
    thread::scope(|scope| {
        // The network beside the compilers, and what large machines run before nothing runs beside them. Whoever needs
        // one earlier waits for it.
        scope.spawn(|| places.iter().for_each(|place| boot::prefetch(cx, *place)));
        scope.spawn(|| builds.iter().for_each(|build| build(cx)));
        for _ in 0..all {
            scope.spawn(|| {
                while let Some((job, _share)) = waiting.take() {
                    one(job);
                }
            });
        }
    });
    let mut records = std::mem::take(&mut lock(&ended).1);
    records.sort_by(|a: &Record, b| a.cell.cmp(&b.cell));
    records
}

/// The jobs not yet started, and the free part of the machine.
struct Waiting {
    left: Mutex<Left>,
    changed: Condvar,
    /// The number of processors of this machine.
    all: usize,
}

struct Left {
    jobs: VecDeque<Job>,
    /// The kinds of the jobs that run.
    kinds: Vec<Kind>,
    processors: usize,
}

/// The processors that a job occupies, until this is dropped.
struct Share<'a> {
    kind: Kind,
    processors: usize,
    waiting: &'a Waiting,
}

impl Waiting {
    fn new(mut jobs: Vec<Job>, all: usize) -> Waiting {
        // The large machines last: nothing else runs beside one.
        jobs.sort_by_key(|job| (job.kind(), job.processors()));
        let left = Left {
            jobs: jobs.into(),
            kinds: Vec::new(),
            processors: all,
        };
        Waiting {
            left: Mutex::new(left),
            changed: Condvar::new(),
            all,
        }
    }

    /// Waits for the next job that fits; `None` if none is left.
    fn take(&self) -> Option<(Job, Share<'_>)> {
        let mut left = lock(&self.left);
        loop {
            if left.jobs.is_empty() {
                return None;
            }
            let fits = |job: &Job| {
                let is_second = job.kind() != Kind::Boots && left.kinds.contains(&job.kind());
                !is_second && job.processors().min(self.all) <= left.processors
            };
            let first = left.jobs.iter().position(fits);
            if let Some(job) = first.and_then(|at| left.jobs.remove(at)) {
                let share = Share {
                    kind: job.kind(),
                    processors: job.processors().min(self.all),
                    waiting: self,
                };
                left.kinds.push(share.kind);
                left.processors -= share.processors;
                return Some((job, share));
            }
            left = self
                .changed
                .wait(left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut left = lock(&self.waiting.left);
        left.processors += self.processors;
        let mine = left.kinds.iter().position(|kind| *kind == self.kind);
        mine.map(|at| left.kinds.swap_remove(at));
        drop(left);
        self.waiting.changed.notify_all();
    }
}
