//! The ratios as tables of docs/numbers.md.

use std::fmt::Write as _;

use super::plan::{OPERATIONS, THREADS};
use super::ratios::{OF_OPERATIONS, Ratio};
use super::report::Report;
use super::stats::digits;

/// A table of the ratios with an aim, and one of the ratios of each operation.
pub fn markdown(report: &Report) -> String {
    let mut text = format!(
        "Measured on {}: median of {} rounds (p25..p75).\n\n",
        report.machine.line(),
        report.rounds
    );
    let (of_operations, others): (Vec<&Ratio>, Vec<&Ratio>) = report
        .ratios
        .iter()
        .partition(|ratio| ratio.is_of_operations());
    if !others.is_empty() {
        text += "| row | time of | over time of | ratio | aim |\n|---|---|---|---|---|\n";
        text += &others.into_iter().map(line).collect::<String>();
        text.push('\n');
    }
    if !of_operations.is_empty() {
        text += &operations(&of_operations);
    }
    text
}

/// One row. Where the aim is an upper bound for ours over the other, the ratio is printed that way round.
fn line(ratio: &Ratio) -> String {
    let Ratio {
        name, other, ours, ..
    } = ratio;
    let (of, over, summary, aim) = match ratio.at_least {
        Some(least) if least < 1.0 => {
            let aim = format!("at most {}", digits(1.0 / least));
            (*ours, *other, ratio.summary.inverse(), aim)
        }
        Some(least) => (*other, *ours, ratio.summary, digits(least)),
        None => (*other, *ours, ratio.summary, String::new()),
    };
    let (median, spread) = summary.show();
    let missed = missed(ratio);
    format!("| {name} | {of} | {over} | {median} ({spread}) | {aim}{missed} |\n")
}

fn missed(ratio: &Ratio) -> &'static str {
    if ratio.misses() { ": **missed**" } else { "" }
}

/// One row per operation, one column per pair of variants.
fn operations(ratios: &[&Ratio]) -> String {
    let mut text = "| operation |".to_owned();
    for (together, other, ours) in OF_OPERATIONS {
        let threads = if together {
            ", a thread for each CPU"
        } else {
            ""
        };
        let _ = write!(text, " {other} / {ours}{threads} |");
    }
    text += "\n|---|";
    text += &"---|".repeat(OF_OPERATIONS.len());
    for operation in OPERATIONS {
        let _ = write!(text, "\n| `{operation}` |");
        for (together, other, ours) in OF_OPERATIONS {
            let found = ratios.iter().find(|ratio| {
                ratio.operation() == operation
                    && ratio.name.contains(THREADS) == together
                    && (ratio.other, ratio.ours) == (other, ours)
            });
            let shown = found.map(|ratio| {
                let median = digits(ratio.summary.median);
                match ratio.at_least {
                    Some(least) => format!("{median} (aim {}{})", digits(least), missed(ratio)),
                    None => median,
                }
            });
            let _ = write!(text, " {} |", shown.unwrap_or_default());
        }
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::stats::Summary;

    #[test]
    fn a_bound_is_shown_as_one() {
        let ratio = |least, value| Ratio {
            group: "ops",
            name: "add".to_owned(),
            other: "plain",
            ours: "per-CPU",
            at_least: least,
            summary: Summary::of([value]).unwrap(),
        };
        let shown = [(Some(0.5), 0.4), (Some(2.0), 4.0), (None, 0.4)];
        let shown = shown.map(|(least, value)| line(&ratio(least, value)));
        assert_eq!(
            shown,
            [
                "| add | per-CPU | plain | 2.50 (2.50..2.50) | at most 2.00: **missed** |\n",
                "| add | plain | per-CPU | 4.00 (4.00..4.00) | 2.00 |\n",
                "| add | plain | per-CPU | 0.400 (0.400..0.400) |  |\n",
            ]
        );
    }
}
