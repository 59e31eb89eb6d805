//! The suite of the guests, everywhere: natively, under qemu-user, and as
//! PID 1 on real kernels.

use super::{Family, Job, Selection, place_needs};
use crate::arch::Arch;
use crate::guests::Guest;
use crate::install::Need;
use crate::lab::Lab;
use crate::outcome::{Cell, Outcome, Verdict};
use crate::place::{Machine, Place};
use crate::protocol;

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
        for place in selection.places() {
            let cell = place.cell(lab.known_version(&place).as_deref());
            let names = lab
                .suite_names(place.arch)
                .unwrap_or_else(|why| vec![format!("(no list: {why})")]);
            listed.extend(
                names
                    .into_iter()
                    .filter(|name| selection.wants(NAME, name))
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
    match names {
        Some(names) if runs(&names, &selection.only).is_empty() => Vec::new(),
        _ => selection.places(),
    }
}

/// The runs that `--only` asks for: `None` is the whole suite, `Some` one
/// `--only` of the guest, each with the tests it should reach.
fn runs(names: &[String], only: &[String]) -> Vec<(Option<String>, Vec<String>)> {
    let named = |part: &str| format!("{NAME}::").contains(part);
    if only.is_empty() || only.iter().any(|part| named(part)) {
        return vec![(None, names.to_vec())];
    }
    let mut seen: Vec<&String> = Vec::new();
    let mut runs = Vec::new();
    for part in only {
        let part = part.strip_prefix("suite::").unwrap_or(part);
        let fresh: Vec<&String> = names
            .iter()
            .filter(|name| name.contains(part) && !seen.contains(name))
            .collect();
        if !fresh.is_empty() {
            seen.extend(&fresh);
            // The guest runs all that match: what an earlier part ran is run again, and judged again.
            let all = names
                .iter()
                .filter(|name| name.contains(part))
                .cloned()
                .collect();
            runs.push((Some(part.to_owned()), all));
        }
    }
    runs
}

fn run(lab: &Lab, place: &Place, only: &[String]) -> Vec<Outcome> {
    let cell = || place.cell(lab.known_version(place).as_deref());
    let names = match lab.suite_names(place.arch) {
        Ok(names) => names,
        Err(why) => {
            return vec![Outcome::new(
                &cell(),
                NAME,
                "start",
                why.verdict(place.required()),
            )];
        }
    };
    let mut outcomes: Vec<Outcome> = Vec::new();
    for (part, expected) in runs(&names, only) {
        let mut arguments: Vec<String> = part
            .iter()
            .flat_map(|part| ["--only".to_owned(), part.clone()])
            .collect();
        arguments.extend(["--scale".to_owned(), place.scale().to_owned()]);
        let run = match lab.run(place, Guest::Suite, &arguments) {
            Ok(run) => run,
            Err(why) => {
                outcomes.push(Outcome::new(
                    &cell(),
                    NAME,
                    "start",
                    why.verdict(place.required()),
                ));
                continue;
            }
        };
        let guests_code = !matches!(place.machine, Machine::Kernel(_));
        let judged = protocol::judge(
            &run.finished.output,
            &expected,
            run.finished.end,
            guests_code,
        );
        for (test, verdict) in judged.tests {
            if !outcomes.iter().any(|earlier| earlier.test == test) {
                let console = console_of(&run.finished.output, &test, &verdict);
                outcomes.push(Outcome::new(&cell(), NAME, test, verdict).with_console(console));
            }
        }
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
    }
    outcomes
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

    #[test]
    fn only_becomes_runs_of_the_guest() {
        let names: Vec<String> = ["keep_a", "keep_b", "release"].map(str::to_owned).to_vec();
        assert_eq!(runs(&names, &[]), [(None, names.clone())]);
        assert_eq!(runs(&names, &["suite".into()]).len(), 1);
        assert_eq!(
            runs(
                &names,
                &["suite::keep".into(), "keep_a".into(), "nothing".into()]
            ),
            [(Some("keep".to_owned()), names[..2].to_vec())]
        );
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
