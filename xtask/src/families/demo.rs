//! The main job itself, everywhere the suite runs.

use super::{Family, Job, Selection, place_needs};
use crate::arch::Arch;
use crate::guests::Guest;
use crate::install::Need;
use crate::lab::{Board, Lab};
use crate::outcome::{Cell, Outcome, Verdict};
use crate::place::Place;
use crate::table;

/// The family.
pub struct Demo;

const NAME: &str = "demo";
const TEST: &str = "init";
/// More CPUs than the set of every libc has room for.
const MANY: &str = "init-with-numbers-for-2048-cpus";

/// The kernel keeps something for each possible CPU, some 1.3 GiB together.
const MANY_CPUS: Board = Board {
    memory: "3072",
    options: " possible_cpus=2048",
};

/// Where the second test runs: x86_64 alone takes so many, and what is tested is ours, so one kernel will do.
fn has_many(place: &Place) -> bool {
    let system = place.system();
    place.arch == Arch::X86_64 && system.is_some_and(|system| system.name == "6.1")
}

/// The tests at a place.
fn tests(selection: &Selection, place: &Place) -> Vec<&'static str> {
    let all = [(TEST, true), (MANY, has_many(place))];
    let wanted = |&(test, here): &(&str, bool)| {
        here && selection.wants(NAME, test) && place.runs(NAME, test)
    };
    all.into_iter()
        .filter(wanted)
        .map(|(test, _)| test)
        .collect()
}

fn wanted(selection: &Selection) -> Vec<(Place, &'static str)> {
    let places = selection.places().into_iter();
    places
        .flat_map(|place| {
            let tests = tests(selection, &place);
            tests.into_iter().map(move |test| (place.clone(), test))
        })
        .collect()
}

impl Family for Demo {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self, lab: &Lab, selection: &Selection) -> Vec<Need> {
        let places: Vec<Place> = wanted(selection)
            .into_iter()
            .map(|(place, _)| place)
            .collect();
        place_needs(lab, &places)
    }

    fn list(&self, lab: &Lab, selection: &Selection) -> Vec<(Cell, String)> {
        let listed = |(place, test): (Place, &str)| {
            let cell = place.cell(lab.known_version(&place).as_deref());
            (cell, test.to_owned())
        };
        wanted(selection).into_iter().map(listed).collect()
    }

    fn jobs<'lab>(&self, lab: &'lab Lab, selection: &Selection) -> Vec<Job<'lab>> {
        let job = |(place, test): (Place, &'static str)| {
            let label = place.cell(lab.known_version(&place).as_deref()).label;
            Job::at(place, format!("demo {test} on {label}"), move |place| {
                vec![run(lab, place, test)]
            })
        };
        wanted(selection).into_iter().map(job).collect()
    }
}

fn run(lab: &Lab, place: &Place, test: &str) -> Outcome {
    let cell = place.cell(lab.known_version(place).as_deref());
    let mut arguments = place.demo_arguments();
    let board = if test == MANY {
        if let Some(why) = too_little_memory() {
            return Outcome::new(&cell, NAME, test, Verdict::Skipped(why));
        }
        arguments.extend(["--threads", "4", "--cpu-numbers", "2048"].map(str::to_owned));
        MANY_CPUS
    } else {
        Board::default()
    };
    match lab.run_on(place, &board, Guest::Init, &arguments) {
        Err(why) => Outcome::new(&cell, NAME, test, why.verdict(place.required())),
        Ok(run) => {
            lab.keep_console(&format!("{NAME}-{test}"), &cell, &run.finished.output);
            let table = table::parse(&run.finished.output, run.finished.end, !place.boots());
            let verdict = match &table.failure {
                None => Verdict::Passed(table.summary()),
                Some(why) => Verdict::Failed(why.clone()),
            };
            Outcome::new(&cell, NAME, test, verdict)
                .with_console(&run.finished.output)
                .took(run.finished.elapsed)
        }
    }
}

/// Why this machine cannot hold the other one, if it cannot.
fn too_little_memory() -> Option<String> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let available: u64 = line.split_whitespace().next()?.parse().ok()?;
    (available < 3 << 20).then(|| format!("{} MiB of memory are too few for it", available >> 10))
}
