//! Tests, each in its own process, with a time limit. A test fails by a panic in any thread, signal handler or child:
//! the message goes to the report that all of them share, and that process exits with 101. A hazard that must kill
//! shows by its status instead: [`must_die`]. [`passed!`] adds a detail to the line of a test, [`skip!`] ends it.
//!
//! The protocol, one line each, for the host runner and for people:
//!
//! ```text
//! @fact KEY VALUE
//! @test NAME start
//! @test NAME passed [DETAIL] | failed: TEXT | skipped: because TEXT
//! @done PASSED FAILED SKIPPED
//! @name NAME                      (only with --list)
//! ```

pub mod child;
pub mod facts;
mod mutants;
mod report;
mod run;

pub use child::{forked, must_die, must_pass, vforked};
pub use facts::{Facts, Needs};
pub use report::{Kind, note_passed, panic, skip_now};
pub use run::{Isolation, judge, run_suite};

use crate::entry::Env;

pub struct Test {
    pub name: &'static str,
    /// Requirements without which it is skipped.
    pub needs: Needs,
    /// The limit in seconds on an idle machine, after which it is reported as hung.
    pub limit: u64,
    run: fn(&Ctx<'_>),
}

impl Test {
    /// A test without requirements, and with a limit above what any machine needs: nothing is measured.
    pub const fn new(name: &'static str, run: fn(&Ctx<'_>)) -> Self {
        Self {
            name,
            needs: Needs::NOTHING,
            limit: 300,
            run,
        }
    }

    pub const fn needs(mut self, needs: Needs) -> Self {
        self.needs = needs;
        self
    }

    pub const fn limit(mut self, seconds: u64) -> Self {
        self.limit = seconds;
        self
    }
}

/// The kind of machine that runs the suite.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// The host itself.
    Native,
    /// A real kernel under an emulated CPU.
    Emulated,
    /// qemu-user: an emulated CPU, and a simulated kernel.
    User,
}

#[derive(Clone, Copy)]
pub struct Ctx<'a> {
    /// Arguments and auxv.
    pub env: &'a Env,
    pub facts: &'a Facts,
    pub scale: Scale,
    /// The factor by which everything may take longer than on an idle machine.
    pub patience: u64,
}

impl Ctx<'_> {
    /// One of three numbers, by scale.
    pub const fn scale(&self, native: u64, emulated: u64, user: u64) -> u64 {
        match self.scale {
            Scale::Native => native,
            Scale::Emulated => emulated,
            Scale::User => user,
        }
    }
}

/// Adds a detail to the line of a test that passes: `passed!("{n} times")`.
#[macro_export]
macro_rules! passed {
    ($($argument:tt)+) => {
        $crate::harness::note_passed(format_args!($($argument)+))
    };
}

/// Ends a test that cannot run here: `skip!("no CPU {n}")`.
#[macro_export]
macro_rules! skip {
    ($($argument:tt)+) => {
        $crate::harness::skip_now(format_args!($($argument)+))
    };
}
pub use crate::{passed, skip};
