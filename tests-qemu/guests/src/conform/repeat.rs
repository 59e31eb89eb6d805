//! Bodies that run for each length, and rounds that end once enough was seen.

use core::fmt;

use super::system::System;
use crate::harness::{forked, note_passed};
use crate::sys::process::{Status, exit_group};
use crate::sys::time::{self, Span};

const DONE: i32 = 7;

/// Runs `body` with each length that a program may register.
#[track_caller]
pub fn each_length(system: &System<'_>, body: impl Fn(u32)) {
    each_of(system.lengths(), body);
}

/// Runs `body` with each of `lengths` in its own process. If one skips, the others still run.
#[track_caller]
pub fn each_of(lengths: impl Iterator<Item = u32>, body: impl Fn(u32)) {
    let mut skipped = false;
    for length in lengths {
        let status = forked(|| {
            body(length);
            exit_group(DONE);
        });
        match status {
            Ok(Status::Exited(DONE)) => {}
            Ok(Status::Exited(0)) => skipped = true,
            status => panic!("length {length}: {status:?}"),
        }
    }
    if skipped {
        exit_group(0);
    }
}

/// Checks that `body` is killed by the signal.
#[track_caller]
pub fn must_be_killed_by(signal: u32, what: impl fmt::Display, body: impl FnOnce()) {
    let status = forked(|| {
        crate::sys::process::no_core_dump();
        body();
    });
    let expected = Ok(Status::Killed(signal as i32));
    agree!(status, expected, "{what}");
}

/// Rounds of an event that depends on the scheduler.
pub struct Rounds {
    end: u64,
    wanted: u32,
    pub seen: u32,
    pub tried: u32,
}

impl Rounds {
    /// Ends after `wanted` events, or after `limit`.
    pub fn until(wanted: u32, limit: Span) -> Self {
        Self {
            end: time::now().0 + limit.0,
            wanted,
            seen: 0,
            tried: 0,
        }
    }

    /// The number of the next round, from 1, or `None` at the end.
    pub fn next(&mut self) -> Option<u32> {
        if self.seen >= self.wanted || time::now().0 >= self.end {
            return None;
        }
        self.tried += 1;
        Some(self.tried)
    }

    /// Skips the check if the event never occurred.
    pub fn conclude(&self, what: &str) {
        let Self { seen, tried, .. } = self;
        if *seen == 0 {
            crate::harness::skip!("not seen in {tried} rounds: {what}");
        }
        note_passed(format_args!("{what} seen {seen} times in {tried} rounds"));
    }
}
