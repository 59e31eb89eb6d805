//! The plots: one of each group's values, with a panel for each operation where there are operations, and the ratios.

mod dots;
mod grid;
mod lines;

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::GROUPS;
use super::ratios::{OfOperation, Ratio};
use super::report::{Report, Row};
use super::stats::Summary;

/// Pixels.
const WIDTH: u32 = 1200;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A dot with its spread.
struct Mark {
    label: String,
    value: Summary,
}

/// A chart of a grid.
type Panel<T> = (String, Vec<T>);

/// Draws all that there is into `folder`; the files.
pub fn draw(report: &Report, folder: &Path) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder)?;
    let below = report.machine.line();
    let mut files = Vec::new();
    let mut drawn = |name: &str, draw: &dyn Fn(&Path) -> Result<()>| {
        let file = folder.join(format!("{name}.svg"));
        draw(&file)?;
        files.push(file);
        anyhow::Ok(())
    };
    for group in GROUPS {
        let rows = report.rows.iter();
        let rows: Vec<&Row> = rows
            .filter(|row| row.group == group && row.unit == "ns")
            .collect();
        if rows.is_empty() {
            continue;
        }
        drawn(group, &|file| match group {
            "ops" => {
                let title = "ops: nanoseconds, one thread; dot median, bar p25 to p75";
                let panels = by_name(rows.iter().map(|row| {
                    let (label, value) = (row.variant.clone(), row.value);
                    (row.name.as_str(), Mark { label, value })
                }));
                dots::panels(file, title, &below, &panels, None)
            }
            "contended" => lines::panels(file, &below, &rows),
            _ => {
                let title = format!("{group}: nanoseconds; dot median, bar p25 to p75");
                let marks: Vec<Mark> = rows.iter().map(|row| of_row(row)).collect();
                dots::whole(file, &title, &below, &marks, None)
            }
        })?;
    }
    let marks: Vec<Mark> = report.ratios.iter().map(of_ratio).collect();
    if !marks.is_empty() {
        let title = "ratios within a round; dot median, bar p25 to p75";
        drawn("ratios", &|file| {
            dots::whole(file, title, &below, &marks, Some(1.0))
        })?;
    }
    let all = report.operation_ratios.iter();
    let panels = by_name(all.map(|ratio| (ratio.operation, of_operation(ratio))));
    if !panels.is_empty() {
        let title = "ratios of the operations within a round; dot median, bar p25 to p75";
        drawn("ratios-ops", &|file| {
            dots::panels(file, title, &below, &panels, Some(1.0))
        })?;
    }
    Ok(files)
}

/// Those of a name together, in the order in which the names come.
fn by_name<'a, T>(all: impl Iterator<Item = (&'a str, T)>) -> Vec<Panel<T>> {
    let mut panels: Vec<Panel<T>> = Vec::new();
    for (name, one) in all {
        match panels.iter_mut().find(|(other, _)| other == name) {
            Some((_, some)) => some.push(one),
            None => panels.push((name.to_owned(), vec![one])),
        }
    }
    panels
}

fn of_row(row: &Row) -> Mark {
    Mark {
        label: format!("{}: {}", row.name, row.variant),
        value: row.value,
    }
}

fn of_ratio(ratio: &Ratio) -> Mark {
    Mark {
        label: format!("{} / {}", ratio.of, ratio.over),
        value: ratio.summary,
    }
}

fn of_operation(ratio: &OfOperation) -> Mark {
    Mark {
        label: format!("{} / {}, {}", ratio.of, ratio.over, ratio.how()),
        value: ratio.summary,
    }
}

/// The backend's errors borrow the drawing.
fn failed<E: std::error::Error>(error: E) -> anyhow::Error {
    anyhow!("the plot: {error}")
}

fn canvas<'a>(file: &'a Path, size: (u32, u32), title: &str, below: &str) -> Result<Area<'a>> {
    let root = SVGBackend::new(file, size).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    let root = root.titled(title, ("sans-serif", 18)).map_err(failed)?;
    root.titled(below, ("sans-serif", 12)).map_err(failed)
}

/// From the least to the greatest of the values, with some room; what a logarithmic axis cannot show is at its start.
fn range<'a>(values: impl Iterator<Item = &'a Summary> + Clone) -> std::ops::Range<f64> {
    let low = values.clone().map(|value| positive(value.p25));
    let high = values.map(|value| positive(value.p75));
    low.fold(f64::MAX, f64::min) / 1.5..high.fold(0.0, f64::max) * 1.5
}

fn positive(value: f64) -> f64 {
    value.max(1e-3)
}
