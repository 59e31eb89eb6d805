//! The main job itself, everywhere the suite runs.

use super::{Family, Job, Selection, place_needs};
use crate::guests::Guest;
use crate::install::Need;
use crate::lab::Lab;
use crate::outcome::{Cell, Outcome, Verdict};
use crate::place::Place;
use crate::table;

/// The family.
pub struct Demo;

const NAME: &str = "demo";
const TEST: &str = "init";

impl Family for Demo {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self, lab: &Lab, selection: &Selection) -> Vec<Need> {
        if selection.wants(NAME, TEST) {
            place_needs(lab, &places(selection))
        } else {
            vec![]
        }
    }

    fn list(&self, lab: &Lab, selection: &Selection) -> Vec<(Cell, String)> {
        places(selection)
            .into_iter()
            .map(|place| {
                (
                    place.cell(lab.known_version(&place).as_deref()),
                    TEST.to_owned(),
                )
            })
            .collect()
    }

    fn jobs<'lab>(&self, lab: &'lab Lab, selection: &Selection) -> Vec<Job<'lab>> {
        places(selection)
            .into_iter()
            .map(|place| {
                let label = place.cell(lab.known_version(&place).as_deref()).label;
                Job::at(place, format!("demo on {label}"), |place| {
                    vec![run(lab, place)]
                })
            })
            .collect()
    }
}

/// The wanted places at which it runs.
fn places(selection: &Selection) -> Vec<Place> {
    let mut places = selection.places();
    places.retain(|place| selection.wants(NAME, TEST) && place.runs(NAME, TEST));
    places
}

fn run(lab: &Lab, place: &Place) -> Outcome {
    let ran = lab.run(place, Guest::Init, &place.demo_arguments());
    let cell = place.cell(lab.known_version(place).as_deref());
    match ran {
        Err(why) => Outcome::new(&cell, NAME, TEST, why.verdict(place.required())),
        Ok(run) => {
            lab.keep_console(NAME, &cell, &run.finished.output);
            let table = table::parse(&run.finished.output, run.finished.end, !place.boots());
            let verdict = match &table.failure {
                None => Verdict::Passed(table.summary()),
                Some(why) => Verdict::Failed(why.clone()),
            };
            Outcome::new(&cell, NAME, TEST, verdict)
                .with_console(&run.finished.output)
                .took(run.finished.elapsed)
        }
    }
}
