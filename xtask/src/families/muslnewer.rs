//! All programs under musl 1.2.5: its vfork on aarch64 and riscv64 is one, where that of 1.2.3 is a fork.

use std::time::Instant;

use super::musl::{NAME, run, wanted};
use super::{Job, Selection};
use crate::arch::Arch;
use crate::lab::Lab;
use crate::musl::{Release, Variant};
use crate::outcome::{Cell, Outcome, Verdict};
use crate::place::{Machine, Place};

/// The test.
const TEST: &str = "trixie/programs";

/// Where it runs: with rseq(2), which qemu's user mode has not, and once for each CPU.
pub fn places(selection: &Selection) -> Vec<Place> {
    let mut places = selection.places();
    places.retain(|place| match place.machine {
        Machine::Native => true,
        Machine::User => false,
        Machine::Kernel(_) => place.is_newest() && Arch::host() != Some(place.arch),
    });
    places.retain(|_| selection.wants(NAME, TEST));
    places
}

/// The selected ones.
pub fn list(lab: &Lab, selection: &Selection) -> Vec<(Cell, String)> {
    let cell = |place: Place| place.cell(lab.known_version(&place).as_deref());
    let places = places(selection).into_iter();
    places.map(|place| (cell(place), TEST.to_owned())).collect()
}

/// The selected ones as work.
pub fn jobs<'lab>(lab: &'lab Lab, selection: &Selection) -> Vec<Job<'lab>> {
    let job = |place: Place| {
        let title = format!("programs under musl 1.2.5 for {}", place.arch);
        Job::at(place, title, move |place| vec![test(lab, place)])
    };
    places(selection).into_iter().map(job).collect()
}

fn test(lab: &Lab, place: &Place) -> Outcome {
    let begun = Instant::now();
    let cell = place.cell(lab.known_version(place).as_deref());
    let outcome = |verdict| Outcome::new(&cell, NAME, TEST, verdict).took(begun.elapsed());
    // A source that the mirror does not have is nobody's fault.
    if let Err(why) = lab.musl_of(Release::Trixie, place.arch, Variant::Hooked) {
        return outcome(why.verdict(false));
    }
    let all = run(lab, Release::Trixie, place, &wanted(&Selection::default()));
    let (verdict, console) = sum(&all);
    let mut outcome = outcome(verdict);
    outcome.console = console;
    outcome
}

/// How many passed; or the first that did not, with its console.
fn sum(all: &[Outcome]) -> (Verdict, String) {
    let (mut passed, mut skipped) = (0, 0);
    for one in all {
        match &one.verdict {
            Verdict::Passed(_) => passed += 1,
            Verdict::Skipped(_) => skipped += 1,
            Verdict::Failed(why) => {
                let told = format!("{}: {why}", one.test);
                return (Verdict::Failed(told), one.console.clone());
            }
            Verdict::Missing(_) => return (one.verdict.clone(), one.console.clone()),
        }
    }
    let told = format!("{passed} tests passed, {skipped} skipped");
    let verdict = if passed > 0 {
        Verdict::Passed(told)
    } else {
        Verdict::Failed(told)
    };
    (verdict, String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_is_the_verdict() {
        let cell = Cell {
            order: 0,
            label: "x".to_owned(),
        };
        let one = |name: &str, verdict| Outcome::new(&cell, NAME, name, verdict);
        let passed = one("a", Verdict::Passed(String::new()));
        let failed = one("b", Verdict::Failed("why".to_owned()));
        assert!(matches!(sum(&[]).0, Verdict::Failed(_)));
        let (verdict, _) = sum(&[passed.clone(), passed.clone()]);
        assert_eq!(
            verdict,
            Verdict::Passed("2 tests passed, 0 skipped".to_owned())
        );
        let (verdict, _) = sum(&[passed, failed]);
        assert_eq!(verdict, Verdict::Failed("b: why".to_owned()));
    }
}
