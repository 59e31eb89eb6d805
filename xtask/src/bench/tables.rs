//! What was measured, as tables.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::GROUPS;
use super::programs::Skipped;
use super::ratios::{OfOperation, Ratio};
use super::report::{Report, Row};
use super::size::Sizes;
use super::stats::Summary;

/// All of them.
pub fn all(report: &Report) -> String {
    let mut text = format!("{}\n", report.machine.line());
    let _ = writeln!(
        text,
        "{} rounds after {} of warm-up; the middle of them, and the two quarters; nothing is subtracted",
        report.rounds, report.warm_up
    );
    for group in GROUPS {
        let rows: Vec<&Row> = report
            .rows
            .iter()
            .filter(|row| row.group == group)
            .collect();
        if rows.is_empty() {
            continue;
        }
        let _ = match group {
            "ops" => writeln!(
                text,
                "\n{group}: ns of one operation, one thread\n{}{}",
                variants_across(&rows),
                legend(&rows)
            ),
            "contended" => writeln!(
                text,
                "\n{group}: ns of CPU time of all threads for one operation, by the number of threads\n{}{}",
                threads_across(&rows),
                legend(&rows)
            ),
            _ => writeln!(text, "\n{group}\n{}", plain(&rows)),
        };
    }
    if !report.operation_ratios.is_empty() {
        let table = of_operations(&report.operation_ratios);
        let _ = writeln!(
            text,
            "\nratios of the operations, each within a round\n{table}"
        );
    }
    if !report.ratios.is_empty() {
        let table = ratios(&report.ratios);
        let _ = writeln!(text, "\nratios, each within a round\n{table}");
    }
    if !report.sizes.is_empty() {
        let hooks = sizes(&report.sizes, |one| &one.bytes);
        let operations = sizes(&report.sizes, |one| &one.operations);
        let _ = writeln!(text, "\nbytes of text: the hooks\n{hooks}");
        let _ = writeln!(
            text,
            "\nbytes of text: a function of one operation, and its abort handler\n{operations}"
        );
    }
    for skipped in &report.skipped {
        let Skipped {
            group,
            variant,
            why,
        } = skipped;
        let _ = writeln!(text, "not measured: {group}, {variant}, because {why}");
    }
    text
}

fn table(header: &[&str], numbers: std::ops::Range<usize>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().copied());
    for column in numbers {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A line for each row.
fn plain(rows: &[&Row]) -> Table {
    let header = ["row", "variant", "ns", "spread", "times", "spread", "what"];
    let mut table = table(&header, 2..6);
    for row in rows {
        let (value, spread) = row.value.show();
        let value = if row.unit == "ns" {
            value
        } else {
            format!("{value} {}", row.unit)
        };
        let (times, times_spread) = match &row.against {
            Some(against) if against.base == row.variant => ("1".to_owned(), String::new()),
            Some(against) => against.ratio.show(),
            None => Default::default(),
        };
        table.add_row([
            &row.name,
            &row.variant,
            &value,
            &spread,
            &times,
            &times_spread,
            &row.what,
        ]);
    }
    table
}

/// Cells by what stands before their line and above their column, both in the order in which they come; the spread is
/// put behind or below a value by `join`.
fn across<const N: usize>(
    before: [&str; N],
    cells: impl Iterator<Item = ([String; N], String, Summary)>,
    join: char,
) -> Table {
    let mut columns: Vec<String> = Vec::new();
    let mut lines: Vec<([String; N], Vec<String>)> = Vec::new();
    for (line, column, value) in cells {
        let column = position(&mut columns, |other| *other == column, || column.clone());
        let of_line = |(other, _): &([String; N], _)| *other == line;
        let line = position(&mut lines, of_line, || (line.clone(), Vec::new()));
        let (value, spread) = value.show();
        let texts = &mut lines[line].1;
        texts.resize(texts.len().max(column + 1), String::new());
        texts[column] = match join {
            '\n' => format!("{value}\n{spread}"),
            _ => format!("{value}{join}({spread})"),
        };
    }
    let above = columns.iter().map(String::as_str);
    let header: Vec<&str> = before.into_iter().chain(above).collect();
    let mut table = table(&header, N..header.len());
    for (line, texts) in lines {
        table.add_row(line.into_iter().chain(texts));
    }
    table
}

/// Where it is, or now is.
fn position<T>(all: &mut Vec<T>, is_it: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> usize {
    all.iter().position(is_it).unwrap_or_else(|| {
        all.push(new());
        all.len() - 1
    })
}

fn variants_across(rows: &[&Row]) -> Table {
    let cells = rows.iter().map(|row| {
        let above = row.variant.replace(", ", ",\n");
        ([row.name.clone()], above, row.value)
    });
    across(["operation"], cells, '\n')
}

fn threads_across(rows: &[&Row]) -> Table {
    let in_ns = |row: &&&Row| row.unit == "ns";
    let others = rows.iter().filter(|row| !in_ns(row));
    let cells = rows.iter().filter(in_ns).chain(others).map(|row| {
        let (name, threads) = row.threads().map_or_else(
            || (row.name.as_str(), String::new()),
            |(name, threads)| (name, threads.to_string()),
        );
        let name = match row.unit.as_str() {
            "ns" => name.to_owned(),
            unit => format!("{name}, {unit}"),
        };
        ([name, row.variant.clone()], threads, row.value)
    });
    across(["operation", "variant"], cells, ' ')
}

/// What a variant is, in words, and the rows of which that is said.
type Said<'a> = (&'a str, Vec<&'a str>);

/// What the variants are, each said once.
fn legend(rows: &[&Row]) -> String {
    let mut variants: Vec<(&str, Vec<Said<'_>>)> = Vec::new();
    for row in rows {
        let name = row.threads().map_or(row.name.as_str(), |(name, _)| name);
        // What is no time is told by its name, and its variants are what it is of.
        let (variant, of) = match row.unit.as_str() {
            "ns" => (row.variant.as_str(), name),
            _ => (name, row.variant.as_str()),
        };
        let at = position(
            &mut variants,
            |(one, _)| *one == variant,
            || (variant, vec![]),
        );
        let said = &mut variants[at].1;
        let at = position(said, |(what, _)| *what == row.what, || (&row.what, vec![]));
        position(&mut said[at].1, |one| *one == of, || of);
    }
    let mut text = String::new();
    for (variant, said) in &variants {
        for (what, names) in said {
            let of = match said.len() {
                1 => String::new(),
                _ => format!(" of {}", names.join("; ")),
            };
            let _ = write!(text, "\n  {variant}{of}: {what}");
        }
    }
    text
}

fn of_operations(ratios: &[OfOperation]) -> Table {
    let cells = ratios.iter().map(|ratio| {
        let of = ratio.of.replace(", ", ",\n");
        let above = format!("{of}\n/ {}\n{}", ratio.over, ratio.how());
        ([ratio.operation.to_owned()], above, ratio.summary)
    });
    across(["operation"], cells, '\n')
}

fn ratios(ratios: &[Ratio]) -> Table {
    let mut table = table(
        &["time of", "over time of", "ratio", "spread", "wanted"],
        2..4,
    );
    for ratio in ratios {
        let (value, spread) = ratio.summary.show();
        table.add_row([&ratio.of, &ratio.over, &value, &spread, ratio.aim]);
    }
    table
}

/// One row for each thing, one column for each CPU.
fn sizes(all: &[Sizes], of: impl Fn(&Sizes) -> &[(String, u64)]) -> Table {
    let arches = all.iter().map(|one| one.arch.name());
    let header: Vec<&str> = std::iter::once("").chain(arches).collect();
    let mut table = table(&header, 1..header.len());
    for (name, _) in of(&all[0]) {
        let bytes = |one: &Sizes| {
            let found = of(one).iter().find(|(other, _)| other == name);
            found.map_or_else(String::new, |(_, bytes)| bytes.to_string())
        };
        table.add_row(std::iter::once(name.clone()).chain(all.iter().map(bytes)));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_stands_under_its_column() {
        let value = |value| Summary::of([value]).unwrap();
        let cell = |line: &str, column: &str, of| ([line.to_owned()], column.to_owned(), value(of));
        // The second line has no first column.
        let cells = [
            cell("a", "x", 1.0),
            cell("a", "y", 2.0),
            cell("b", "y", 3.0),
        ];
        let text = across(["row"], cells.into_iter(), ' ').to_string();
        let ends: Vec<Option<usize>> = ["2.00)", "3.00)"]
            .map(|end| {
                let line = text.lines().find(|line| line.contains(end))?;
                line.find(end)
            })
            .to_vec();
        assert!(ends[0].is_some() && ends[0] == ends[1], "{text}");
    }
}
