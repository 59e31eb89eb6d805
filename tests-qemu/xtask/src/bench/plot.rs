//! The plots: one of each group's values, one of the ratios, one of what more threads cost.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::report::{Report, Row};
use super::stats::Summary;
use super::{GROUPS, ratios::Ratio};

/// Pixels of a row.
const ROW: u32 = 24;
const WIDTH: u32 = 1100;

/// A dot with its spread.
struct Mark {
    label: String,
    value: Summary,
}

/// Draws all that there is into `folder`; the files.
pub fn draw(report: &Report, folder: &Path) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder)?;
    let mut files = Vec::new();
    for group in GROUPS {
        let rows = report
            .rows
            .iter()
            .filter(|row| row.group == group && row.unit == "ns");
        let marks: Vec<Mark> = rows.map(of_row).collect();
        if !marks.is_empty() {
            let file = folder.join(format!("{group}.svg"));
            let title = format!("{group}: nanoseconds; dot median, bar p25 to p75");
            dots(&file, &title, &report.machine.line(), &marks, None)?;
            files.push(file);
        }
    }
    let marks: Vec<Mark> = report.ratios.iter().map(of_ratio).collect();
    if !marks.is_empty() {
        let file = folder.join("ratios.svg");
        let title = "ratios within a round; dot median, bar p25 to p75";
        dots(&file, title, &report.machine.line(), &marks, Some(1.0))?;
        files.push(file);
    }
    for (prefix, name) in [
        ("add, threads: ", "scaling-add"),
        ("pool pop+push, threads: ", "scaling-pool"),
    ] {
        let file = folder.join(format!("{name}.svg"));
        if scaling(&file, report, prefix)? {
            files.push(file);
        }
    }
    Ok(files)
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

/// The backend's errors borrow the drawing.
fn failed<E: std::error::Error>(error: E) -> anyhow::Error {
    anyhow!("the plot: {error}")
}

fn canvas<'a>(
    file: &'a Path,
    size: (u32, u32),
    title: &str,
    below: &str,
) -> Result<DrawingArea<SVGBackend<'a>, Shift>> {
    let root = SVGBackend::new(file, size).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    let root = root.titled(title, ("sans-serif", 18)).map_err(failed)?;
    root.titled(below, ("sans-serif", 12)).map_err(failed)
}

/// One line a mark, on a logarithmic axis.
fn dots(file: &Path, title: &str, below: &str, marks: &[Mark], line: Option<f64>) -> Result<()> {
    let count = marks.len();
    let size = (WIDTH, 130 + ROW * count as u32);
    let root = canvas(file, size, title, below)?;
    let positive = |value: f64| value.max(1e-3);
    let low = marks
        .iter()
        .map(|mark| positive(mark.value.p25))
        .fold(f64::MAX, f64::min);
    let high = marks
        .iter()
        .map(|mark| positive(mark.value.p75))
        .fold(0.0, f64::max);
    // From the top down, in the order of the table.
    let name = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(n) => marks
            .get(count.wrapping_sub(n + 1))
            .map(|mark| mark.label.clone()),
        _ => None,
    };
    let mut chart = ChartBuilder::on(&root)
        .margin(10)
        .margin_right(30)
        .x_label_area_size(32)
        .y_label_area_size(430)
        .build_cartesian_2d(
            (low / 1.5..high * 1.5).log_scale(),
            (0..count).into_segmented(),
        )
        .map_err(failed)?;
    chart
        .configure_mesh()
        .y_labels(count)
        .y_label_formatter(&|at| name(at).unwrap_or_default())
        .x_label_formatter(&|value| super::stats::digits(*value))
        .label_style(("sans-serif", 12))
        .light_line_style(WHITE)
        .draw()
        .map_err(failed)?;
    if let Some(line) = line {
        let ends = [
            (line, SegmentValue::Exact(0)),
            (line, SegmentValue::Exact(count)),
        ];
        chart
            .draw_series([PathElement::new(ends.to_vec(), BLACK.mix(0.5))])
            .map_err(failed)?;
    }
    let bars = marks.iter().enumerate().map(|(n, mark)| {
        let at = SegmentValue::CenterOf(count - 1 - n);
        let ends = vec![
            (positive(mark.value.p25), at.clone()),
            (positive(mark.value.p75), at),
        ];
        PathElement::new(ends, BLUE.mix(0.5).stroke_width(5))
    });
    chart.draw_series(bars).map_err(failed)?;
    let points = marks.iter().enumerate().map(|(n, mark)| {
        let at = SegmentValue::CenterOf(count - 1 - n);
        Circle::new((positive(mark.value.median), at), 4, BLUE.filled())
    });
    chart.draw_series(points).map_err(failed)?;
    root.present().map_err(failed)
}

/// A line for each variant over the number of threads; `false` without rows.
fn scaling(file: &Path, report: &Report, prefix: &str) -> Result<bool> {
    let mut lines: Vec<(&str, Vec<(f64, f64)>)> = Vec::new();
    for row in &report.rows {
        let threads = row
            .name
            .strip_prefix(prefix)
            .and_then(|text| text.parse::<f64>().ok());
        let Some(threads) = threads else { continue };
        let point = (threads, row.value.median.max(1e-3));
        match lines
            .iter_mut()
            .find(|(variant, _)| *variant == row.variant)
        {
            Some((_, points)) => points.push(point),
            None => lines.push((&row.variant, vec![point])),
        }
    }
    let points = || lines.iter().flat_map(|(_, points)| points);
    if points().count() == 0 {
        return Ok(false);
    }
    let most = points().map(|point| point.0).fold(1.0, f64::max);
    let low = points().map(|point| point.1).fold(f64::MAX, f64::min);
    let high = points().map(|point| point.1).fold(0.0, f64::max);
    let title = format!(
        "{} CPU nanoseconds for one operation, by threads",
        prefix.trim_end_matches(", threads: ")
    );
    let root = canvas(file, (WIDTH, 520), &title, &report.machine.line())?;
    let mut chart = ChartBuilder::on(&root)
        .margin(10)
        .margin_right(30)
        .x_label_area_size(32)
        .y_label_area_size(60)
        .build_cartesian_2d(1.0..most.max(2.0), (low / 1.5..high * 1.5).log_scale())
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_label_formatter(&|value| super::stats::digits(*value))
        .y_label_formatter(&|value| super::stats::digits(*value))
        .light_line_style(WHITE)
        .draw()
        .map_err(failed)?;
    for (n, (variant, points)) in lines.iter().enumerate() {
        let colour = Palette99::pick(n).to_rgba();
        let series = LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(4);
        chart
            .draw_series(series)
            .map_err(failed)?
            .label(*variant)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::MiddleRight)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.4))
        .label_font(("sans-serif", 12))
        .draw()
        .map_err(failed)?;
    root.present().map_err(failed)?;
    Ok(true)
}
