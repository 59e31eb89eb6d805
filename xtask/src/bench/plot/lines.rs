//! What more threads cost.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use super::super::report::Row;
use super::super::stats::{Summary, digits};
use super::{Area, by_name, failed, grid, positive, range};

/// A variant's value with so many threads.
type Point<'a> = (&'a str, u32, Summary);

/// A panel for each operation, a line for each variant, with the same colour in all of them.
pub fn panels(file: &Path, below: &str, rows: &[&Row]) -> Result<()> {
    let points = rows.iter().filter_map(|row| {
        let (name, threads) = row.threads()?;
        Some((name, (row.variant.as_str(), threads, row.value)))
    });
    let panels = by_name(points);
    let lines = by_name(rows.iter().map(|row| (row.variant.as_str(), ())));
    let legend: Vec<(&str, RGBAColor)> = lines
        .iter()
        .enumerate()
        .map(|(n, (variant, _))| (variant.as_str(), Palette99::pick(n).to_rgba()))
        .collect();
    let title =
        "contended: CPU nanoseconds for one operation, by threads; line median, bar p25 to p75";
    grid::draw(
        file,
        (title, below),
        (3, 300),
        &panels,
        &legend,
        |area, points| chart(area, points, &legend),
    )
}

fn chart(area: &Area<'_>, points: &[Point<'_>], legend: &[(&str, RGBAColor)]) -> Result<()> {
    let y = range(points.iter().map(|(_, _, value)| value));
    // Twice the threads is one step.
    let at = |threads: u32| f64::from(threads).log2();
    let most = points.iter().map(|(_, threads, _)| *threads).max();
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(16)
        .x_label_area_size(24)
        .y_label_area_size(48)
        .build_cartesian_2d(-0.1..at(most.unwrap_or(1)) + 0.1, y.log_scale())
        .map_err(failed)?;
    let whole = |x: &f64| match x.fract().abs() < 1e-6 {
        true => x.exp2().to_string(),
        false => String::new(),
    };
    chart
        .configure_mesh()
        .x_labels(5)
        .x_label_formatter(&whole)
        .y_labels(6)
        .y_label_formatter(&|value| digits(*value))
        .light_line_style(WHITE)
        .draw()
        .map_err(failed)?;
    for (variant, colour) in legend {
        let of_it = || points.iter().filter(|(other, ..)| other == variant);
        let middle = of_it().map(|(_, threads, value)| (at(*threads), positive(value.median)));
        let series = LineSeries::new(middle, colour.stroke_width(2)).point_size(3);
        chart.draw_series(series).map_err(failed)?;
        let bars = of_it().map(|(_, threads, value)| {
            let ends = [positive(value.p25), positive(value.p75)].map(|y| (at(*threads), y));
            PathElement::new(ends, colour.mix(0.4).stroke_width(4))
        });
        chart.draw_series(bars).map_err(failed)?;
    }
    Ok(())
}
