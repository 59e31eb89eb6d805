//! Programs under our musl: natively, under qemu-user, and as PID 1 of the newest kernel, static and shared.

use std::path::{Path, PathBuf};

use super::muslprogram::{Kind, Programs};
use super::{Family, Job, Selection, muslmore, muslnewer};
use crate::arch::Arch;
use crate::install::Need;
use crate::lab::{Lab, Run};
use crate::musl::Release;
use crate::outcome::{Cell, Outcome, Trouble};
use crate::place::{Machine, Place};
use crate::protocol;

/// The family.
pub struct Musl;

/// The first half of its tests' names.
pub const NAME: &str = "musl";

impl Family for Musl {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self, lab: &Lab, selection: &Selection) -> Vec<Need> {
        let mut needs = super::place_needs(lab, &places(selection));
        needs.extend(muslmore::needs(selection));
        needs.extend(super::place_needs(lab, &muslnewer::places(selection)));
        needs
    }

    fn list(&self, lab: &Lab, selection: &Selection) -> Vec<(Cell, String)> {
        let mut listed = Vec::new();
        for place in places(selection) {
            let cell = place.cell(lab.known_version(&place).as_deref());
            let tests = wanted(selection);
            listed.extend(tests.into_iter().map(|test| (cell.clone(), test)));
        }
        listed.extend(muslmore::list(selection));
        listed.extend(muslnewer::list(lab, selection));
        listed
    }

    fn jobs<'lab>(&self, lab: &'lab Lab, selection: &Selection) -> Vec<Job<'lab>> {
        let mut jobs = muslmore::jobs(lab, selection);
        for place in places(selection) {
            let tests = wanted(selection);
            let cell = place.cell(lab.known_version(&place).as_deref());
            let title = format!("programs under our musl on {}", cell.label);
            jobs.push(Job::at(place, title, move |place| {
                run(lab, Release::default(), place, &tests)
            }));
        }
        jobs.extend(muslnewer::jobs(lab, selection));
        jobs
    }
}

/// Where the programs run, if any of them is wanted.
fn places(selection: &Selection) -> Vec<Place> {
    if wanted(selection).is_empty() {
        return Vec::new();
    }
    let older = |place: &Place| place.boots() && !place.is_newest();
    // x86_64 runs natively. Under qemu-user its programs really execute others, and the fork that qemu makes of a vfork
    // hangs now and then in a program of many threads, in locks of qemu's own.
    let twice = |place: &Place| place.arch == Arch::X86_64 && place.machine == Machine::User;
    let mut places = selection.places();
    places.retain(|place| !older(place) && !twice(place));
    places
}

/// The wanted tests, in the order they run.
pub fn wanted(selection: &Selection) -> Vec<String> {
    let both = Kind::ALL.into_iter().flat_map(|kind| {
        let names = super::muslprogram::names();
        names.map(move |name| format!("{}/{name}", kind.name()))
    });
    both.filter(|test| selection.wants(NAME, test)).collect()
}

/// What one run of a program is to reach.
struct Part {
    program: PathBuf,
    more: Vec<(&'static str, PathBuf)>,
    tests: Vec<String>,
}

/// Those tests at `place`, under the musl of that release.
pub fn run(lab: &Lab, release: Release, place: &Place, tests: &[String]) -> Vec<Outcome> {
    let cell = || place.cell(lab.known_version(place).as_deref());
    let start = |why: Trouble| {
        let verdict = why.verdict(place.required());
        Outcome::new(&cell(), NAME, "start", verdict)
    };
    let parts = match parts(lab, release, place, tests) {
        Ok(parts) => parts,
        Err(why) => return vec![start(why)],
    };
    let mut outcomes = Vec::new();
    let mut consoles = String::new();
    for part in parts {
        let mut arguments = vec!["--scale".to_owned(), place.scale().to_owned()];
        if let Some(only) = only(&part.tests) {
            arguments.extend(["--only".to_owned(), only.to_owned()]);
        }
        let run = match lab.run_program(place, &part.program, &part.more, &arguments) {
            Ok(run) => run,
            Err(why) => {
                outcomes.push(start(why));
                continue;
            }
        };
        let console = run.finished.output;
        let judged = protocol::judge(&console, &part.tests, run.finished.end, !place.boots());
        for (test, verdict) in judged.tests {
            if part.tests.contains(&test) || test == "ending" {
                let outcome = Outcome::new(&cell(), NAME, test, verdict);
                outcomes.push(outcome.with_console(&console));
            }
        }
        consoles.push_str(&console);
    }
    let name = match release {
        Release::Bookworm => NAME,
        Release::Trixie => "musl-trixie",
    };
    lab.keep_console(name, &cell(), &consoles);
    outcomes
}

/// One program at a time, or both in one boot: the static one executes the other when it has done.
fn parts(
    lab: &Lab,
    release: Release,
    place: &Place,
    tests: &[String],
) -> Result<Vec<Part>, Trouble> {
    let programs = Programs::build(lab, release, place.arch, place.boots())?;
    if place.boots() {
        return Ok(vec![Part {
            program: programs.path(Kind::Static),
            more: programs.beside(),
            tests: tests.to_vec(),
        }]);
    }
    let parts = Kind::ALL.map(|kind| Part {
        program: programs.path(kind),
        more: Vec::new(),
        tests: of(kind, tests),
    });
    Ok(parts
        .into_iter()
        .filter(|part| !part.tests.is_empty())
        .collect())
}

fn of(kind: Kind, tests: &[String]) -> Vec<String> {
    let prefix = format!("{}/", kind.name());
    let mine = tests.iter().filter(|test| test.starts_with(&prefix));
    mine.cloned().collect()
}

/// The one test that is wanted, where it is one.
fn only(tests: &[String]) -> Option<&str> {
    let mut names = tests.iter().filter_map(|test| test.split('/').next_back());
    let first = names.next()?;
    names.all(|name| name == first).then_some(first)
}

/// One test of a program of one musl, as a test outside of the places runs it: what it said.
pub fn run_here(lab: &Lab, program: &Path, only: &str) -> Result<String, Trouble> {
    let run = native(lab, program, &["--scale", "native", "--only", only])?;
    Ok(run.finished.output)
}

/// All tests of a program, each in its shorter form.
pub fn run_all_here(lab: &Lab, program: &Path) -> Result<Run, Trouble> {
    native(lab, program, &["--scale", "emulated"])
}

fn native(lab: &Lab, program: &Path, arguments: &[&str]) -> Result<Run, Trouble> {
    let none = || Trouble::Missing("none of the three CPUs".into());
    let place = Place {
        arch: Arch::host().ok_or_else(none)?,
        machine: Machine::Native,
    };
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    lab.run_program(&place, program, &[], &arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_are_named_after_the_program() {
        let all = wanted(&Selection::default());
        assert_eq!(all.len() % 2, 0);
        assert!(all.contains(&"static/constructors".to_owned()));
        assert!(all.contains(&"shared/detached_storm".to_owned()));
    }

    #[test]
    fn one_test_is_asked_for_by_name() {
        let tests = ["static/a", "shared/a", "static/b"].map(str::to_owned);
        assert_eq!(only(&tests[..2]), Some("a"));
        assert_eq!(only(&tests), None);
        assert_eq!(of(Kind::Static, &tests).len(), 2);
    }
}
