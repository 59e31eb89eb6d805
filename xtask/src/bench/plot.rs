//! The plot of the ratios.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use super::ratios::{Ratio, Standing};
use super::report::Report;
use super::stats::digits;

/// Pixels: of the file, of the labels beside the axis, of a line, of the head and the axis.
const WIDTH: u32 = 1340;
const LABELS: u32 = 640;
const LINE: u32 = 18;
const HEAD: u32 = 130;

const TITLE: &str = "How many times as long the other takes as ours: other / ours, within a round";
const LEGEND: &str =
    "dot: median, bar: p25 to p75; green: ours is faster, grey: level, red: slower; cross: the aim";

const SIDES: &str =
    "left of 1: ours is slower; right of 1: ours is faster; wanted: at or right of the cross";

const GREEN: RGBColor = RGBColor(0x1a, 0x7f, 0x37);
const GREY: RGBColor = RGBColor(0x6e, 0x77, 0x81);
const RED: RGBColor = RGBColor(0xcf, 0x22, 0x2e);

/// Draws the ratios of a report.
pub fn draw(report: &Report, file: &Path) -> Result<()> {
    let ratios = &report.ratios;
    let rows = ratios.len();
    let area = SVGBackend::new(file, (WIDTH, HEAD + LINE * rows as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let area = area.titled(TITLE, ("sans-serif", 18))?;
    let area = area.titled(&report.machine.line(), ("sans-serif", 12))?;
    let area = area.titled(LEGEND, ("sans-serif", 12))?;
    let (low, high) = limits(ratios);
    let mut chart = ChartBuilder::on(&area)
        .margin_right(20)
        .y_label_area_size(LABELS)
        .x_label_area_size(50)
        .build_cartesian_2d(
            (low..high).log_scale().with_key_points(ticks(low, high)),
            // Both ends are rows.
            (0..rows.max(1) - 1).into_segmented(),
        )?;
    // The first ratio is the uppermost.
    let place = |nth: usize| rows - 1 - nth;
    let label = |segment: &SegmentValue<usize>| match *segment {
        SegmentValue::CenterOf(at) if at < rows => label(&ratios[place(at)]),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(rows)
        .y_label_formatter(&label)
        .x_label_formatter(&|value| digits(*value))
        .x_desc(SIDES)
        .label_style(("sans-serif", 12))
        .draw()?;
    let level = [SegmentValue::Exact(0), SegmentValue::Last].map(|end| (1.0, end));
    chart.draw_series([PathElement::new(level, BLACK)])?;
    for (nth, ratio) in ratios.iter().enumerate() {
        let row = SegmentValue::CenterOf(place(nth));
        let summary = &ratio.summary;
        let [p25, median, p75] = [summary.p25, summary.median, summary.p75].map(|x| x.max(low));
        let style = colour(ratio).filled();
        chart.draw_series([ErrorBar::new_horizontal(
            row.clone(),
            p25,
            median,
            p75,
            style,
            8,
        )])?;
        let aim = ratio
            .at_least
            .map(|least| Cross::new((least, row), 5, BLACK));
        chart.draw_series(aim)?;
    }
    Ok(area.present()?)
}

/// The least and the greatest of the quartiles and the aims, and 1, with some room.
fn limits(ratios: &[Ratio]) -> (f64, f64) {
    let ends = |ratio: &Ratio| {
        [
            Some(ratio.summary.p25),
            Some(ratio.summary.p75),
            ratio.at_least,
        ]
    };
    let ends = || ratios.iter().flat_map(ends).flatten();
    let low = ends().filter(|&end| end > 0.0).fold(1.0, f64::min);
    (low / 1.3, ends().fold(1.0, f64::max) * 1.3)
}

/// 1, 2 and 5 of each power of ten between the two: far enough from each other for their labels.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let (least, most) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let all = (least..=most).flat_map(|power| [1.0, 2.0, 5.0].map(|one| one * 10f64.powi(power)));
    all.filter(|tick| (low..=high).contains(tick)).collect()
}

fn colour(ratio: &Ratio) -> RGBColor {
    match ratio.standing() {
        Standing::Ahead => GREEN,
        Standing::Level => GREY,
        Standing::Behind => RED,
    }
}

fn label(ratio: &Ratio) -> String {
    let Ratio {
        group,
        name,
        other,
        ours,
        ..
    } = ratio;
    let (median, spread) = ratio.summary.show();
    let verdict = if ratio.misses() { "missed" } else { "met" };
    let aim = ratio
        .at_least
        .map(|least| format!(", aim {} {verdict}", digits(least)));
    let aim = aim.unwrap_or_default();
    format!("{group}: {name}: {other} / {ours}: {median} ({spread}){aim}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_stand_apart_on_both_sides_of_one() {
        let ticks = ticks(0.25, 20.0);
        assert_eq!(ticks.len(), 6);
        for (tick, wanted) in ticks.iter().zip([0.5, 1.0, 2.0, 5.0, 10.0, 20.0]) {
            assert!((tick - wanted).abs() < 1e-9, "{ticks:?}");
        }
    }
}
