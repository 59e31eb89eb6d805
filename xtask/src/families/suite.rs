//! The suite of the guests, everywhere: natively, under qemu-user, and as
//! PID 1 on real kernels.

use super::{Family, Job, Selection, place_needs};
use crate::arch::Arch;
use crate::guests::Guest;
use crate::install::Need;
use crate::lab::{Lab, load};
use crate::outcome::{Cell, Outcome, Trouble, Verdict};
use crate::place::{Machine, Place};
use crate::protocol;
use crate::systems::System;

/// The family.
pub struct Suite;

const NAME: &str = "suite";

impl Family for Suite {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self, lab: &Lab, selection: &Selection) -> Vec<Need> {
        place_needs(lab, &wanted_places(lab, selection))
    }

    fn list(&self, lab: &Lab, selection: &Selection) -> Vec<(Cell, String)> {
        let mut listed = Vec::new();
        for place in places(selection) {
            let cell = place.cell(lab.known_version(&place).as_deref());
            let names = lab
                .suite_names(place.arch)
                .unwrap_or_else(|why| vec![format!("(no list: {why})")]);
            listed.extend(
                names
                    .into_iter()
                    .filter(|name| selection.wants(NAME, name) && place.runs(NAME, name))
                    .map(|name| (cell.clone(), name)),
            );
        }
        listed
    }

    fn jobs<'lab>(&self, lab: &'lab Lab, selection: &Selection) -> Vec<Job<'lab>> {
        let mut jobs = Vec::new();
        for place in wanted_places(lab, selection) {
            let title = format!(
                "suite on {}",
                place.cell(lab.known_version(&place).as_deref()).label
            );
            let only = selection.only.clone();
            jobs.push(Job::at(place, title, move |place| run(lab, place, &only)));
        }
        jobs
    }
}

/// The selected places, or none where `--only` names tests of other families:
/// that takes the list of the native suite, which needs no emulator.
fn wanted_places(lab: &Lab, selection: &Selection) -> Vec<Place> {
    let elsewhere = |part: &String| {
        part.split_once("::")
            .is_some_and(|(family, _)| !NAME.ends_with(family))
    };
    if !selection.only.is_empty() && selection.only.iter().all(elsewhere) {
        return Vec::new();
    }
    let names = match Arch::host() {
        Some(host) if !selection.only.is_empty() => lab.suite_names(host).ok(),
        _ => None,
    };
    let mut places = places(selection);
    if let Some(names) = names {
        places.retain(|place| !expected(&names, place, &selection.only).is_empty());
    }
    places
}

/// The selected places, but those where other families alone run.
fn places(selection: &Selection) -> Vec<Place> {
    let mut places = selection.places();
    places.retain(|place| {
        let parts = place.system().map_or(&[][..], |system| system.tests);
        parts.is_empty() || parts.iter().any(|part| part.starts_with("suite::"))
    });
    places
}

/// The tests that a run at `place` should reach.
fn expected(names: &[String], place: &Place, only: &[String]) -> Vec<String> {
    let wanted = |name: &&String| {
        let full = format!("{NAME}::{name}");
        let part = |part: &String| full.contains(part.as_str());
        (only.is_empty() || only.iter().any(part)) && place.runs(NAME, name)
    };
    names.iter().filter(wanted).cloned().collect()
}

/// What the guest is told of it: `--only` as the user said it, and `--within` as the table does. Each is a list of
/// parts, since a kernel's command line has room for a few arguments.
fn arguments(place: &Place, only: &[String]) -> Vec<String> {
    let within = place.system().map_or(&[][..], |system| system.tests);
    let lists: [(&str, Vec<&str>); 2] = [
        ("--only", only.iter().map(String::as_str).collect()),
        ("--within", within.to_vec()),
    ];
    let mut arguments = ["--scale", place.scale(), "--patience"]
        .map(str::to_owned)
        .to_vec();
    arguments.push(load().to_string());
    for (name, parts) in lists {
        if !parts.is_empty() {
            arguments.extend([name.to_owned(), parts.join(",")]);
        }
    }
    arguments
}

fn run(lab: &Lab, place: &Place, only: &[String]) -> Vec<Outcome> {
    let cell = || place.cell(lab.known_version(place).as_deref());
    let not_run = |why: Trouble| {
        vec![Outcome::new(
            &cell(),
            NAME,
            "start",
            why.verdict(place.required()),
        )]
    };
    let names = match lab.suite_names(place.arch) {
        Ok(names) => names,
        Err(why) => return not_run(why),
    };
    let run = match lab.run(place, Guest::Suite, &arguments(place, only)) {
        Ok(run) => run,
        Err(why) => return not_run(why),
    };
    let guests_code = !matches!(place.machine, Machine::Kernel(_));
    let judged = protocol::judge(
        &run.finished.output,
        &expected(&names, place, only),
        run.finished.end,
        guests_code,
    );
    lab.keep_console(NAME, &cell(), &run.finished.output);
    let facts: Vec<String> = judged
        .facts
        .iter()
        .map(|(key, value)| format!("{key} {value}"))
        .collect();
    lab.progress.say(format!(
        "{}: {}, {}",
        cell().label,
        run.kernel,
        facts.join(", ")
    ));
    let outcome = |(test, verdict): (String, Verdict)| {
        let verdict = not_skipped(place, &test, verdict);
        let console = console_of(&run.finished.output, &test, &verdict);
        Outcome::new(&cell(), NAME, test, verdict).with_console(console)
    };
    judged.tests.into_iter().map(outcome).collect()
}

/// A test that the system is there for, and that was skipped, has failed.
fn not_skipped(place: &Place, test: &str, verdict: Verdict) -> Verdict {
    let must = |system: &System| system.must_run_test(test);
    match verdict {
        Verdict::Skipped(why) if place.system().is_some_and(must) => {
            Verdict::Failed(format!("has to run here, and was skipped: because {why}"))
        }
        other => other,
    }
}

/// The part of the console that belongs to a failed test: up to its verdict,
/// or to the end where it has none; nothing for a test never reached.
fn console_of<'a>(console: &'a str, test: &str, verdict: &Verdict) -> &'a str {
    let Verdict::Failed(why) = verdict else {
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
        let all = Place::all(true).into_iter();
        let named = |place: &Place| place.system().is_some_and(|system| system.name == name);
        all.into_iter().find(named).unwrap()
    }

    #[test]
    fn only_and_the_table_narrow_a_run() {
        let names = ["keep_a", "slice/armed-by-the-hook", "slice/off"].map(str::to_owned);
        let count = |name: &str, only: &[String]| expected(&names, &place(name), only).len();
        assert_eq!(count("newest", &[]), 3);
        assert_eq!(count("newest", &["suite".into()]), 3);
        assert_eq!(
            count("newest", &["suite::keep".into(), "nothing".into()]),
            1
        );
        assert_eq!(count("slice", &[]), 2);
        assert_eq!(count("slice", &["suite::keep".into()]), 0);
        let told = arguments(&place("newest"), &["a".into(), "b".into()]);
        assert_eq!(told[..3], ["--scale", "emulated", "--patience"]);
        assert_eq!(told[4..], ["--only", "a,b"]);
    }

    #[test]
    fn what_a_system_is_there_for_may_not_be_skipped() {
        let skipped = Verdict::Skipped("no slices".into());
        let judge = |name, test| not_skipped(&place(name), test, skipped.clone());
        assert!(matches!(
            judge("slice", "slice/armed-by-the-hook"),
            Verdict::Failed(_)
        ));
        assert_eq!(judge("slice", "slice/asked"), skipped);
        assert_eq!(judge("newest", "slice/armed-by-the-hook"), skipped);
    }

    #[test]
    fn a_failure_shows_its_own_console() {
        let console = "@test a start\nnoise\n@test a failed: x\n@test b start\n@test b passed\n";
        let shown = console_of(console, "a", &Verdict::Failed("x".into()));
        assert!(shown.ends_with("failed: x"));
        assert_eq!(
            console_of(
                console,
                "c",
                &Verdict::Failed("not reached: exit code 0".into())
            ),
            ""
        );
    }
}
