//! Bodies that are run for each length, and rounds that end when enough was seen.

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

/// Runs `body` with each of `lengths` in a process of its own. One that skips leaves the others their turn.
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

/// `body` must be killed by the signal; why not, otherwise.
#[track_caller]
pub fn must_be_killed_by(signal: u32, what: impl fmt::Display, body: impl FnOnce()) {
    let status = forked(|| {
        crate::sys::process::no_core_dump();
        body();
    });
    let expected = Ok(Status::Killed(signal as i32));
    agree!(status, expected, "{what}");
}

/// Rounds of something that the scheduler brings about in its own time.
pub struct Rounds {
    end: u64,
    wanted: u32,
    pub seen: u32,
    pub tried: u32,
}

impl Rounds {
    /// Until it was seen so often, or for so long.
    pub fn until(wanted: u32, limit: Span) -> Self {
        Self {
            end: time::now().0 + limit.0,
            wanted,
            seen: 0,
            tried: 0,
        }
    }

    /// Shall there be another one? Its number, above 0.
    pub fn next(&mut self) -> Option<u32> {
        if self.seen >= self.wanted || time::now().0 >= self.end {
            return None;
        }
        self.tried += 1;
        Some(self.tried)
    }

    /// Skips the check where it was not seen at all.
    pub fn conclude(&self, what: &str) {
        let Self { seen, tried, .. } = self;
        if *seen == 0 {
            crate::harness::skip!("not seen in {tried} rounds: {what}");
        }
        note_passed(format_args!("{what} seen {seen} times in {tried} rounds"));
    }
}
