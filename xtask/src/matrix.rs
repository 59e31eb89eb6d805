//! The outcomes as a person reads them: test x cell, then a line per cell,
//! then every failure with its console, then why what was skipped was.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};

use crate::outcome::{Cell, Outcome, Verdict};

/// How many passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Passed.
    pub passed: usize,
    /// Failed, a required one that could not run included.
    pub failed: usize,
    /// Skipped.
    pub skipped: usize,
}

impl Counts {
    /// Counts `outcomes`.
    pub fn of<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Counts {
        let mut counts = Counts::default();
        for outcome in outcomes {
            match outcome.verdict {
                Verdict::Passed(_) => counts.passed += 1,
                Verdict::Failed(_) | Verdict::Missing(_) => counts.failed += 1,
                Verdict::Skipped(_) => counts.skipped += 1,
            }
        }
        counts
    }

    /// The last line of all.
    pub fn line(self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// Under `--allow-missing`, what is missing is skipped.
pub fn allow_missing(outcomes: &mut [Outcome]) {
    for outcome in outcomes {
        if let Verdict::Missing(why) = &outcome.verdict {
            outcome.verdict = Verdict::Skipped(why.clone());
        }
    }
}

/// Everything but the last line.
pub fn render(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    // What runs in one cell only would be rows with one mark each: the host's
    // checks are in the lines per cell. The link proofs have cells of their own.
    for link in [true, false] {
        let wanted =
            |outcome: &&Outcome| outcome.family != "host" && (outcome.family == "link") == link;
        let part: Vec<&Outcome> = outcomes.iter().filter(wanted).collect();
        if !part.is_empty() {
            let _ = writeln!(text, "{}\n", by_test(&part));
        }
    }
    let _ = writeln!(text, "{}\n", by_cell(outcomes));
    details(outcomes, &mut text);
    failures(outcomes, &mut text);
    skips(outcomes, &mut text);
    text
}

fn cells(outcomes: &[Outcome]) -> BTreeSet<&Cell> {
    outcomes.iter().map(|outcome| &outcome.cell).collect()
}

/// Rows are tests, columns are cells.
fn by_test(wide: &[&Outcome]) -> Table {
    let columns: BTreeSet<&Cell> = wide.iter().map(|outcome| &outcome.cell).collect();
    let mut rows: Vec<String> = Vec::new();
    let mut marks: BTreeMap<(String, &Cell), &str> = BTreeMap::new();
    for outcome in wide {
        let name = outcome.name();
        marks.insert((name.clone(), &outcome.cell), mark(&outcome.verdict));
        if !rows.contains(&name) {
            rows.push(name);
        }
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    let heads = columns.iter().map(|cell| cell.label.replace('/', "\n"));
    table.set_header(["test".to_owned()].into_iter().chain(heads));
    for name in rows {
        let row: Vec<&str> = columns
            .iter()
            .map(|cell| marks.get(&(name.clone(), *cell)).copied().unwrap_or(""))
            .collect();
        table.add_row([name.as_str()].into_iter().chain(row));
    }
    table
}

fn mark(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Passed(_) => "passed",
        Verdict::Failed(_) => "FAILED",
        Verdict::Skipped(_) => "skipped",
        Verdict::Missing(_) => "MISSING",
    }
}

fn by_cell(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["cell", "passed", "failed", "skipped"]);
    for cell in cells(outcomes) {
        let counts = Counts::of(outcomes.iter().filter(|outcome| outcome.cell == *cell));
        let numbers =
            [counts.passed, counts.failed, counts.skipped].map(|number| number.to_string());
        table.add_row([cell.label.clone()].into_iter().chain(numbers));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// What passed and has something to say.
fn details(outcomes: &[Outcome], text: &mut String) {
    for outcome in outcomes {
        if let Verdict::Passed(detail) = &outcome.verdict
            && !detail.is_empty()
        {
            let _ = writeln!(text, "{} {}: {detail}", outcome.cell.label, outcome.name());
        }
    }
    text.push('\n');
}

fn failures(outcomes: &[Outcome], text: &mut String) {
    for outcome in outcomes {
        let (word, why) = match &outcome.verdict {
            Verdict::Failed(why) => ("FAILED", why),
            Verdict::Missing(why) => ("MISSING", why),
            Verdict::Passed(_) | Verdict::Skipped(_) => continue,
        };
        let _ = writeln!(
            text,
            "{word} {} {}: {why}",
            outcome.cell.label,
            outcome.name()
        );
        for line in outcome.console.lines() {
            let _ = writeln!(text, "    | {line}");
        }
    }
}

fn skips(outcomes: &[Outcome], text: &mut String) {
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for outcome in outcomes {
        if let Verdict::Skipped(why) = &outcome.verdict {
            reasons.entry(why).or_default().push(format!(
                "{} {}",
                outcome.cell.label,
                outcome.name()
            ));
        }
    }
    for (why, tests) in reasons {
        let _ = writeln!(text, "skipped because {why}:");
        for test in tests {
            let _ = writeln!(text, "    {test}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(order: usize, label: &str, test: &str, verdict: Verdict) -> Outcome {
        Outcome::new(
            &Cell {
                order,
                label: label.into(),
            },
            "suite",
            test,
            verdict,
        )
    }

    #[test]
    fn a_missing_required_cell_fails_unless_allowed() {
        let mut outcomes = vec![
            outcome(1, "x86_64/native", "a", Verdict::Passed(String::new())),
            outcome(
                2,
                "riscv64/7.2",
                "start",
                Verdict::Missing("no kernel".into()),
            ),
            outcome(
                2,
                "riscv64/7.2",
                "b",
                Verdict::Skipped("no such call".into()),
            ),
        ];
        assert_eq!(
            Counts::of(&outcomes).line(),
            "1 passed, 1 failed, 1 skipped"
        );
        allow_missing(&mut outcomes);
        assert_eq!(
            Counts::of(&outcomes).line(),
            "1 passed, 0 failed, 2 skipped"
        );
    }

    #[test]
    fn everything_is_on_the_page_once() {
        let outcomes = [
            outcome(
                2,
                "riscv64/7.2",
                "a",
                Verdict::Skipped("no such call".into()),
            ),
            outcome(1, "x86_64/native", "a", Verdict::Failed("1 != 2".into()))
                .with_console("one\ntwo\n"),
        ];
        let page = render(&outcomes);
        assert_eq!(page.matches("suite::a").count(), 3, "{page}");
        assert!(
            page.contains("FAILED x86_64/native suite::a: 1 != 2\n    | one\n    | two\n"),
            "{page}"
        );
        assert!(
            page.contains("skipped because no such call:\n    riscv64/7.2 suite::a\n"),
            "{page}"
        );
        let head: Vec<&str> = page.lines().take(3).collect();
        assert!(head[1].find("x86_64") < head[1].find("riscv64"), "{page}");
    }
}
