//! The suite of the guests, everywhere: natively, under qemu-user, and as PID 1 on real kernels.

use std::path::PathBuf;

use anyhow::Result;

use crate::arch::Arch;
use crate::case::{Case, Family, Judged};
use crate::cell::{At, keep_console};
use crate::console;
use crate::context::Context;
use crate::guests::{guest, guest_needs, names};
use crate::machine::boot::{self, load};
use crate::machine::place::Place;
use crate::outcome::Outcome;

pub const FAMILY: Family = Family {
    name: "suite",
    cases,
    needs: guest_needs,
};

fn program(cx: &Context, arch: Arch) -> Result<PathBuf> {
    guest(cx, arch, "suite")
}

fn cases(cx: &Context, at: At) -> Result<Vec<Case>> {
    let At::Place(place) = at else {
        return Ok(vec![]);
    };
    // Where a system lists other families only, the suite does not run.
    let parts = place.system().map_or(&[][..], |system| system.tests);
    if !parts.is_empty() && !parts.iter().any(|part| part.starts_with("suite::")) {
        return Ok(vec![]);
    }
    let names = names(cx, program, &["--list"])?;
    Ok(Case::together(names, move |cx, tests| {
        run(cx, place, tests)
    }))
}

/// The arguments of the guest: `--only` from the command line, and `--within` from the table of systems. Both are lists
/// in one argument each, since a kernel's command line has room for a few arguments only.
fn arguments(place: Place, only: &[String]) -> Vec<String> {
    let within = place.system().map_or(&[][..], |system| system.tests);
    let lists = [("--only", only.join(",")), ("--within", within.join(","))];
    let mut arguments = ["--scale", place.scale(), "--patience"]
        .map(str::to_owned)
        .to_vec();
    arguments.push(load().to_string());
    for (name, parts) in lists {
        if !parts.is_empty() {
            arguments.extend([name.to_owned(), parts]);
        }
    }
    arguments
}

fn run(cx: &Context, place: Place, tests: &[String]) -> Result<Vec<Judged>> {
    let suite = program(cx, place.arch)?;
    let run = boot::run(cx, place, &suite, &[], &arguments(place, &cx.only))?;
    let console = &run.finished.output;
    let judged = console::judge(console, tests, run.finished.end, !place.boots());
    keep_console(cx, "suite", place, console);
    let facts: Vec<String> = judged
        .facts
        .iter()
        .map(|(key, value)| format!("{key} {value}"))
        .collect();
    let facts = facts.join(", ");
    let label = At::Place(place).cell(cx).label;
    cx.say(format!("{label}: {}, {facts}", run.kernel));
    let one = |(test, outcome): (String, Outcome)| {
        let outcome = not_skipped(place, &test, outcome);
        Judged {
            console: console_of(console, &test, &outcome).to_owned(),
            time: judged.times.get(&test).copied().unwrap_or_default(),
            test,
            outcome,
        }
    };
    Ok(judged.tests.into_iter().map(one).collect())
}

/// Turns a skipped test that must run on this system into a failure.
fn not_skipped(place: Place, test: &str, outcome: Outcome) -> Outcome {
    let must = place
        .system()
        .is_some_and(|system| system.must_run_test(test));
    match outcome {
        Outcome::Skipped(why) if must => {
            Outcome::Failed(format!("must run here, but was skipped: {why}"))
        }
        other => other,
    }
}

/// The console of a failed test: up to its verdict, or to the end without one; nothing for a test never reached.
fn console_of<'a>(console: &'a str, test: &str, outcome: &Outcome) -> &'a str {
    let Outcome::Failed(why) = outcome else {
        return "";
    };
    if why.starts_with("not reached") && console.contains("@test ") {
        return "";
    }
    match console.find(&format!("@test {test} failed")) {
        Some(at) => &console[..at + console[at..].find('\n').unwrap_or(console.len() - at)],
        None => console,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> Place {
        let named = |place: &Place| place.system().is_some_and(|system| system.name == name);
        Place::all(true).into_iter().find(named).unwrap()
    }

    #[test]
    fn what_a_system_is_there_for_may_not_be_skipped() {
        let skipped = Outcome::Skipped("no slices".into());
        let judge = |name, test| not_skipped(place(name), test, skipped.clone());
        let failed = judge("slice", "slice/armed-by-the-hook");
        assert!(matches!(failed, Outcome::Failed(_)));
        assert_eq!(judge("slice", "slice/asked"), skipped);
        assert_eq!(judge("newest", "slice/armed-by-the-hook"), skipped);
    }
}
