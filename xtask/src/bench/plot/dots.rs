//! A dot with its spread on each line.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use super::super::stats::digits;
use super::{Area, Mark, Panel, WIDTH, canvas, failed, grid, positive, range};

/// Pixels of a line.
const LINE: u32 = 24;

/// One chart that fills the file.
pub fn whole(
    file: &Path,
    title: &str,
    below: &str,
    marks: &[Mark],
    line: Option<f64>,
) -> Result<()> {
    let size = (WIDTH, 130 + LINE * marks.len() as u32);
    let root = canvas(file, size, title, below)?;
    let x = range(marks.iter().map(|mark| &mark.value));
    chart(&root, marks, x, 430, line)?;
    root.present().map_err(failed)
}

/// A chart for each panel, with one axis for all of them.
pub fn panels(
    file: &Path,
    title: &str,
    below: &str,
    panels: &[Panel<Mark>],
    line: Option<f64>,
) -> Result<()> {
    let marks = || panels.iter().flat_map(|(_, marks)| marks);
    let x = range(marks().map(|mark| &mark.value));
    let most = panels.iter().map(|(_, marks)| marks.len()).max();
    let height = 80 + 20 * most.unwrap_or(1) as u32;
    // As wide as the longest label, at 12 pixels.
    let labels = 7 * marks().map(|mark| mark.label.len()).max().unwrap_or(1) as u32;
    grid::draw(
        file,
        (title, below),
        (2, height),
        panels,
        &[],
        |area, marks| chart(area, marks, x.clone(), labels, line),
    )
}

/// One line a mark, on a logarithmic axis.
fn chart(
    area: &Area<'_>,
    marks: &[Mark],
    x: std::ops::Range<f64>,
    labels: u32,
    line: Option<f64>,
) -> Result<()> {
    let count = marks.len();
    // From the top down, in the order of the table.
    let name = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(n) => marks
            .get(count.wrapping_sub(n + 1))
            .map(|mark| mark.label.clone()),
        _ => None,
    };
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .margin_right(30)
        .x_label_area_size(32)
        .y_label_area_size(labels)
        .build_cartesian_2d(x.log_scale(), (0..count).into_segmented())
        .map_err(failed)?;
    chart
        .configure_mesh()
        .y_labels(count)
        .y_label_formatter(&|at| name(at).unwrap_or_default())
        .x_label_formatter(&|value| digits(*value))
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
    Ok(())
}
