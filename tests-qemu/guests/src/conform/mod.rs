//! `rseq-conform`: judges the system that it runs on (a kernel, an emulator, a sandbox or a container) by the promises
//! of the rseq(2) ABI. It uses the raw ABI and nothing of the crate. Each [`Check`] is one sentence of the ABI and runs
//! in its own process, with a time limit.

/// Fails the check unless both are equal: `agree!(SEEN, EXPECTED, "subject")`.
macro_rules! agree {
    ($seen:expr, $expected:expr, $($what:tt)+) => {
        match (&$seen, &$expected) {
            (seen, expected) if *seen == *expected => {}
            (seen, expected) => panic!("{}: {seen:?}, not {expected:?}", format_args!($($what)+)),
        }
    };
}

mod aborts;
mod answers;
mod area;
mod children;
mod descriptors;
mod fence;
mod ids;
mod memory;
mod output;
mod repeat;
mod section;
mod slice;
mod steps;
mod stores;
mod stress;
mod system;

use crate::entry::Env;
use crate::harness::{Isolation, Kind};
use crate::println;
use crate::text::text;
use output::{Form, Sums};
use system::{Needs, System};

/// The consequence of a failed check for programs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Silent: lost or misplaced updates, wrong CPUs, writes to freed memory.
    Dangerous,
    /// Noticed by the program: an unusual answer, or a missing feature.
    Nuisance,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Level::Dangerous => "dangerous",
            Level::Nuisance => "nuisance",
        }
    }
}

/// One sentence of the ABI.
pub struct Check {
    name: &'static str,
    level: Level,
    rule: &'static str,
    needs: Needs,
    run: fn(&System<'_>),
}

impl Check {
    /// A check whose failure means silent damage.
    const fn dangerous(name: &'static str, rule: &'static str, run: fn(&System<'_>)) -> Self {
        Self {
            name,
            level: Level::Dangerous,
            rule,
            needs: Needs::Nothing,
            run,
        }
    }

    /// A check whose failure is noticed.
    const fn nuisance(name: &'static str, rule: &'static str, run: fn(&System<'_>)) -> Self {
        let mut check = Self::dangerous(name, rule, run);
        check.level = Level::Nuisance;
        check
    }

    const fn needs(mut self, needs: Needs) -> Self {
        self.needs = needs;
        self
    }
}

const CHECKS: &[&[Check]] = &[
    answers::CHECKS,
    ids::CHECKS,
    aborts::CHECKS,
    steps::CHECKS,
    stress::CHECKS,
    descriptors::CHECKS,
    stores::CHECKS,
    memory::CHECKS,
    children::CHECKS,
    fence::CHECKS,
    slice::CHECKS,
];

/// Many times the duration of a check on a busy, emulated machine.
const LIMIT: u64 = 300;

const HELP: &str = "\
rseq-conform: does this system keep the promises of rseq(2)?

usage: rseq-conform [--json] [--only PARTS] [--list] [--timeout SECONDS]

  --json             one JSON document in place of TAP
  --only PARTS       only checks whose name contains one of PARTS, separated by commas
  --list             the checks, their level and their sentence of the ABI
  --timeout SECONDS  the limit for each check (300)

exit status:
  0  every check that can run here passed
  1  a dangerous failure: silent damage to a program that uses rseq
  2  nuisances alone: other answers than elsewhere, which a program notices
  3  no rseq(2): nothing to judge, and a program goes without
  4  this program could not run as asked

A check that cannot run here (one CPU, no ptrace) or did not see what it waits for (a
preemption) is skipped with its reason, and is not a failure.";

const NO_RSEQ: i32 = 3;
const USAGE: i32 = 4;

pub fn main(env: &Env) -> i32 {
    if env.has(children::AFTER_EXEC) {
        return children::after_exec(env);
    }
    if env.has("--help") {
        for line in HELP.lines() {
            println!("{line}");
        }
        return 0;
    }
    let checks = || CHECKS.iter().flat_map(|checks| checks.iter());
    if env.has("--list") {
        for check in checks() {
            println!("{} [{}] {}", check.name, check.level.name(), check.rule);
        }
        return 0;
    }
    let limit = match env.value_of("--timeout").map(seconds) {
        None => LIMIT,
        Some(Some(limit)) => limit,
        Some(None) => return wrong("--timeout wants seconds"),
    };
    let parts = env.value_of("--only").unwrap_or(b"");
    let wanted = |check: &&Check| has_one_of(check.name, parts);
    if checks().filter(wanted).count() == 0 {
        return wrong("no check has such a name");
    }
    let Ok(isolation) = Isolation::new() else {
        return wrong("no memory");
    };
    let system = System::ask(env);
    let form = if env.has("--json") {
        Form::Json
    } else {
        Form::Tap
    };
    form.begin(&system, checks().filter(wanted).count());
    let mut sums = Sums::new(&system);
    for (nth, check) in checks().filter(wanted).enumerate() {
        let (kind, seen) = match system.lacks(check.needs) {
            Some(why) => (Kind::Skipped, text(format_args!("{why}"))),
            None => isolation.run(limit, || (check.run)(&system)),
        };
        form.check(nth, check, kind, &seen);
        sums.count(check, kind);
    }
    form.end(&sums);
    sums.status()
}

fn wrong(why: &str) -> i32 {
    println!("rseq-conform: {why}; see --help");
    USAGE
}

fn seconds(digits: &[u8]) -> Option<u64> {
    core::str::from_utf8(digits).ok()?.parse().ok()
}

/// Whether `name` contains one of the comma-separated parts.
fn has_one_of(name: &str, parts: &[u8]) -> bool {
    let name = name.as_bytes();
    parts
        .split(|&byte| byte == b',')
        .any(|part| part.is_empty() || name.windows(part.len()).any(|at| at == part))
}
