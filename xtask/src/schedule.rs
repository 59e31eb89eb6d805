//! Runs the jobs: two at a time, one of them an emulated machine. What runs on this machine itself goes one by one.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use crate::case::{Job, Record};
use crate::context::Context;
use crate::machine::boot;
use crate::matrix::Counts;
use crate::process::lock;

/// Runs all of `jobs` and returns what they yielded.
pub fn run(cx: &Context, jobs: Vec<Job>) -> Vec<Record> {
    let (boots, here): (Vec<Job>, Vec<Job>) =
        jobs.into_iter().partition(|job| job.boots().is_some());
    let total = here.len() + boots.len();
    // The number of jobs that have ended, and their records.
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
    let places: Vec<_> = boots.iter().filter_map(|job| job.boots()).collect();
    let queue = Mutex::new(VecDeque::from(boots));
    let next = || lock(&queue).pop_front();
    let boot_all = || {
        while let Some(job) = next() {
            one(job);
        }
    };
    thread::scope(|scope| {
        // The network beside the compilers. Whoever needs one earlier waits for it.
        scope.spawn(|| places.iter().for_each(|place| boot::prefetch(cx, *place)));
        scope.spawn(boot_all);
        here.into_iter().for_each(one);
        boot_all();
    });
    let mut records = std::mem::take(&mut lock(&ended).1);
    records.sort_by(|a: &Record, b| a.cell.cmp(&b.cell));
    records
}
