//! The green-thread runtime: its own tests wherever they can show something, and its job against the ordinary tools.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use super::{Family, Job, Selection, green_words, place_needs};
use crate::arch::Arch;
use crate::cargo::{cargo, finish};
use crate::compiler;
use crate::guests;
use crate::install::Need;
use crate::lab::{Lab, Run};
use crate::outcome::{Cell, Outcome, Trouble, Verdict};
use crate::place::{Machine, Place};
use crate::protocol;

/// The family.
pub struct Green;

pub(super) const NAME: &str = "green";
const BENCH: &str = "bench_lines";
/// Form and lints: the package is outside the workspace, which has them checked in one go. Natively.
const FORM: &str = "form";

/// Its package, from the workspace's root.
const MANIFEST: &str = "examples/green/Cargo.toml";

impl Family for Green {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self, lab: &Lab, selection: &Selection) -> Vec<Need> {
        let mut needs = place_needs(lab, &wanted_places(lab, selection));
        if !needs.is_empty() {
            needs.extend(green_words::needs());
        }
        needs
    }

    fn list(&self, lab: &Lab, selection: &Selection) -> Vec<(Cell, String)> {
        let mut listed = Vec::new();
        for place in places(selection) {
            let cell = place.cell(lab.known_version(&place).as_deref());
            let tests = tests(lab, &place).unwrap_or_else(|why| vec![format!("(no list: {why})")]);
            let wanted = tests.into_iter().filter(|test| selection.wants(NAME, test));
            listed.extend(wanted.map(|test| (cell.clone(), test)));
        }
        listed
    }

    fn jobs<'lab>(&self, lab: &'lab Lab, selection: &Selection) -> Vec<Job<'lab>> {
        let mut jobs = Vec::new();
        for place in wanted_places(lab, selection) {
            let label = place.cell(lab.known_version(&place).as_deref()).label;
            let only = selection.only.clone();
            let title = format!("green threads on {label}");
            jobs.push(Job::at(place, title, move |place| run(lab, place, &only)));
        }
        jobs
    }
}

/// Natively, under qemu-user, and on the newest kernel: the older ones have nothing that this would show.
fn places(selection: &Selection) -> Vec<Place> {
    let mut places = selection.places();
    places.retain(|place| match &place.machine {
        Machine::Native => true,
        Machine::User => Arch::host() != Some(place.arch),
        Machine::Kernel(_) => place.is_newest(),
    });
    places
}

/// None where `--only` names tests of other families, which takes no build to see.
fn wanted_places(lab: &Lab, selection: &Selection) -> Vec<Place> {
    let elsewhere = |part: &String| {
        part.split_once("::")
            .is_some_and(|(family, _)| !NAME.ends_with(family))
    };
    if !selection.only.is_empty() && selection.only.iter().all(elsewhere) {
        return Vec::new();
    }
    let mut places = places(selection);
    places.retain(|place| {
        selection.only.is_empty()
            || tests(lab, place)
                .is_ok_and(|tests| tests.iter().any(|test| selection.wants(NAME, test)))
    });
    places
}

/// The tests at a place.
fn tests(lab: &Lab, place: &Place) -> Result<Vec<String>, Trouble> {
    let mut tests = names(lab, place.arch)?;
    tests.extend(green_words::tests(place).iter().map(ToString::to_string));
    if !place.boots() {
        tests.push(BENCH.to_owned());
    }
    if place.machine == Machine::Native {
        tests.push(FORM.to_owned());
    }
    Ok(tests)
}

/// The example's program for `arch`, built once.
pub fn program(lab: &Lab, arch: Arch) -> Result<PathBuf, Trouble> {
    static BUILT: [OnceLock<Result<PathBuf, Trouble>>; 3] = [const { OnceLock::new() }; 3];
    let built = BUILT[arch as usize].get_or_init(|| {
        let compiler = compiler::find(arch, lab.install, &lab.progress)
            .map_err(|why| Trouble::Missing(format!("{why:#}")))?;
        let _step = lab
            .progress
            .step(format!("building the green threads for {arch}"));
        let build = compiler.build_with("core,alloc,compiler_builtins");
        let package = ["--manifest-path", MANIFEST];
        guests::build_package(&lab.root, arch, build, &package, &lab.progress)
    });
    built.clone().map(|folder| folder.join(NAME))
}

/// Runs it at `place`, with `more` beside it where it boots.
pub(crate) fn start(
    lab: &Lab,
    place: &Place,
    more: &[(&str, PathBuf)],
    arguments: &[&str],
) -> Result<Run, Trouble> {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    lab.run_program(place, &program(lab, place.arch)?, more, &arguments)
}

/// The names of its own tests.
fn names(lab: &Lab, arch: Arch) -> Result<Vec<String>, Trouble> {
    static NAMES: [OnceLock<Result<Vec<String>, Trouble>>; 3] = [const { OnceLock::new() }; 3];
    let list = || {
        let machine = if Arch::host() == Some(arch) {
            Machine::Native
        } else {
            Machine::User
        };
        let run = start(lab, &Place { arch, machine }, &[], &["test", "--list"])?;
        let names = protocol::names(&run.finished.output);
        if names.is_empty() {
            let why = format!("`green test --list` names no test: {}", run.finished.end);
            return Err(Trouble::Broken(why));
        }
        Ok(names)
    };
    NAMES[arch as usize].get_or_init(list).clone()
}

fn run(lab: &Lab, place: &Place, only: &[String]) -> Vec<Outcome> {
    let selection = Selection {
        only: only.to_vec(),
        ..Selection::default()
    };
    let mut outcomes = own_tests(lab, place, &selection);
    outcomes.extend(green_words::run(lab, place, &selection));
    if !place.boots() && selection.wants(NAME, BENCH) {
        outcomes.push(bench_lines(lab, place));
    }
    if place.machine == Machine::Native && selection.wants(NAME, FORM) {
        let verdict = form(lab).unwrap_or_else(|why| why.verdict(true));
        outcomes.push(Outcome::new(&place.cell(None), NAME, FORM, verdict));
    }
    outcomes
}

/// The suite inside the program, whole: it is short.
fn own_tests(lab: &Lab, place: &Place, selection: &Selection) -> Vec<Outcome> {
    let cell = || place.cell(lab.known_version(place).as_deref());
    let failed = |why: Trouble| Outcome::new(&cell(), NAME, "start", why.verdict(true));
    let names = match names(lab, place.arch) {
        Ok(names) => names,
        Err(why) => return vec![failed(why)],
    };
    if !names.iter().any(|name| selection.wants(NAME, name)) {
        return Vec::new();
    }
    let run = match start(lab, place, &[], &["test", "--scale", place.scale()]) {
        Ok(run) => run,
        Err(why) => return vec![failed(why)],
    };
    let output = &run.finished.output;
    lab.keep_console(NAME, &cell(), output);
    let judged = protocol::judge(output, &names, run.finished.end, !place.boots());
    let wanted = judged
        .tests
        .into_iter()
        .filter(|(test, _)| selection.wants(NAME, test) || test == "ending");
    wanted
        .map(|(test, verdict)| Outcome::new(&cell(), NAME, test, verdict).with_console(output))
        .collect()
}

fn form(lab: &Lab) -> Result<Verdict, Trouble> {
    let target = lab.root.join("target/guests/form");
    let target = target.display().to_string();
    let lint = ["--quiet", "--target-dir", &target, "--", "-Dwarnings"];
    for (tool, arguments) in [("fmt", &["--check"][..]), ("clippy", &lint[..])] {
        let present = finish(cargo(lab, None, &[tool, "--version"])).map_err(Trouble::Missing)?;
        if !present.ok() {
            return Err(Trouble::Missing(present.tail(1)));
        }
        let mut command = cargo(lab, None, &[tool, "--manifest-path", MANIFEST]);
        command.args(arguments);
        let checked = finish(command).map_err(Trouble::Missing)?;
        if !checked.ok() {
            return Ok(Verdict::Failed(format!("{tool}: {}", checked.tail(20))));
        }
    }
    Ok(Verdict::Passed(String::new()))
}

/// What `cargo xtask bench` reads: one object a line, with a name and a time.
fn bench_lines(lab: &Lab, place: &Place) -> Outcome {
    let cell = place.cell(None);
    let short = ["bench", "--switches", "20", "--repeats", "1"];
    let run = match start(lab, place, &[], &short) {
        Ok(run) => run,
        Err(why) => return Outcome::new(&cell, NAME, BENCH, why.verdict(place.required())),
    };
    let lines: Vec<&str> = run.finished.output.lines().collect();
    let wrong = lines.iter().find(|line| !is_measurement(line));
    let verdict = match (run.finished.ok(), wrong) {
        (true, None) if lines.len() >= 3 => Verdict::Passed(format!("{} lines", lines.len())),
        (true, None) => Verdict::Failed("not a line for each queue".to_owned()),
        (true, Some(line)) => Verdict::Failed(format!("no measurement: {line}")),
        (false, _) => Verdict::Failed(run.finished.end.to_string()),
    };
    Outcome::new(&cell, NAME, BENCH, verdict)
        .with_console(&run.finished.output)
        .took(run.finished.elapsed)
}

fn is_measurement(line: &str) -> bool {
    let Ok(object) = serde_json::from_str::<serde_json::Value>(line) else {
        return false;
    };
    let time = object["ns"]
        .as_f64()
        .map(|ns| Duration::from_secs_f64(ns / 1e9));
    object["name"].is_string() && time.is_some_and(|time| time > Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_has_a_name_and_a_time() {
        assert!(is_measurement(r#"{"name": "green/mutex/1", "ns": 40.1}"#));
        assert!(!is_measurement(r#"{"name": "green/mutex/1", "ns": 0.0}"#));
        assert!(!is_measurement(r#"{"name": "green/mutex/1"}"#));
        assert!(!is_measurement("green bench: EAGAIN"));
    }
}
