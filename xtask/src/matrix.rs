//! The text report: test x cell, then a line per cell, then every failure with its console, then the reasons of skipped
//! tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};

use crate::case::Record;
use crate::cell::Cell;
use crate::outcome::Outcome;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    pub passed: usize,
    /// Failed, including required tests that could not run.
    pub failed: usize,
    pub skipped: usize,
}

impl Counts {
    /// Counts `records`.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Counts {
        let mut counts = Counts::default();
        for record in records {
            match record.outcome {
                Outcome::Passed(_) => counts.passed += 1,
                Outcome::Failed(_) | Outcome::Missing(_) => counts.failed += 1,
                Outcome::Skipped(_) => counts.skipped += 1,
            }
        }
        counts
    }

    pub fn line(self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// Under `--allow-missing`, missing tests count as skipped.
pub fn allow_missing(records: &mut [Record]) {
    for record in records {
        if let Outcome::Missing(why) = &record.outcome {
            record.outcome = Outcome::Skipped(why.clone());
        }
    }
}

/// Everything but the last line.
pub fn render(records: &[Record]) -> String {
    let mut text = String::new();
    // Tests of a single cell would be rows with one mark: the host's checks are in the lines per cell. The link proofs
    // have cells of their own.
    for link in [true, false] {
        let wanted =
            |record: &&Record| record.family != "host" && (record.family == "link") == link;
        let part: Vec<&Record> = records.iter().filter(wanted).collect();
        if !part.is_empty() {
            let _ = writeln!(text, "{}\n", by_test(&part));
        }
    }
    let _ = writeln!(text, "{}\n", by_cell(records));
    details(records, &mut text);
    failures(records, &mut text);
    skips(records, &mut text);
    text
}

fn cells(records: &[Record]) -> BTreeSet<&Cell> {
    records.iter().map(|record| &record.cell).collect()
}

/// Rows are tests, columns are cells.
fn by_test(wide: &[&Record]) -> Table {
    let columns: BTreeSet<&Cell> = wide.iter().map(|record| &record.cell).collect();
    let mut rows: Vec<String> = Vec::new();
    let mut marks: BTreeMap<(String, &Cell), &str> = BTreeMap::new();
    for record in wide {
        let name = record.name();
        marks.insert((name.clone(), &record.cell), mark(&record.outcome));
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

fn mark(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed(_) => "passed",
        Outcome::Failed(_) => "FAILED",
        Outcome::Skipped(_) => "skipped",
        Outcome::Missing(_) => "MISSING",
    }
}

fn by_cell(records: &[Record]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["cell", "passed", "failed", "skipped"]);
    for cell in cells(records) {
        let counts = Counts::of(records.iter().filter(|record| record.cell == *cell));
        let numbers =
            [counts.passed, counts.failed, counts.skipped].map(|number| number.to_string());
        table.add_row([cell.label.clone()].into_iter().chain(numbers));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The notes of passed tests.
fn details(records: &[Record], text: &mut String) {
    for record in records {
        if let Outcome::Passed(detail) = &record.outcome
            && !detail.is_empty()
        {
            let _ = writeln!(text, "{} {}: {detail}", record.cell.label, record.name());
        }
    }
    text.push('\n');
}

fn failures(records: &[Record], text: &mut String) {
    for record in records {
        let (word, why) = match &record.outcome {
            Outcome::Failed(why) => ("FAILED", why),
            Outcome::Missing(why) => ("MISSING", why),
            Outcome::Passed(_) | Outcome::Skipped(_) => continue,
        };
        let _ = writeln!(
            text,
            "{word} {} {}: {why}",
            record.cell.label,
            record.name()
        );
        for line in record.console.lines() {
            let _ = writeln!(text, "    | {line}");
        }
    }
}

fn skips(records: &[Record], text: &mut String) {
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for record in records {
        if let Outcome::Skipped(why) = &record.outcome {
            reasons.entry(why).or_default().push(format!(
                "{} {}",
                record.cell.label,
                record.name()
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

    fn record(order: usize, label: &str, test: &str, outcome: Outcome) -> Record {
        let label = label.to_owned();
        Record {
            cell: Cell { order, label },
            family: "suite",
            test: test.to_owned(),
            outcome,
            console: String::new(),
            seconds: 0.0,
        }
    }

    #[test]
    fn a_missing_required_cell_fails_unless_allowed() {
        let missing = Outcome::Missing("no kernel".into());
        let skipped = Outcome::Skipped("no such call".into());
        let mut records = vec![
            record(1, "x86_64/native", "a", Outcome::passed()),
            record(2, "riscv64/7.2", "start", missing),
            record(2, "riscv64/7.2", "b", skipped),
        ];
        let line = |records: &[Record]| Counts::of(records).line();
        assert_eq!(line(&records), "1 passed, 1 failed, 1 skipped");
        allow_missing(&mut records);
        assert_eq!(line(&records), "1 passed, 0 failed, 2 skipped");
    }
}
