//! Several charts in one file.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use super::{Area, WIDTH, canvas, failed};

/// Pixels of the file's own title.
const HEAD: u32 = 60;

/// Draws each panel under its name, `columns` side by side, each of them `height` pixels high; above them, `legend`.
pub fn draw<T>(
    file: &Path,
    (title, below): (&str, &str),
    (columns, height): (usize, u32),
    panels: &[(String, T)],
    legend: &[(&str, RGBAColor)],
    chart: impl Fn(&Area<'_>, &T) -> Result<()>,
) -> Result<()> {
    let lines = panels.len().div_ceil(columns).max(1);
    let strip = if legend.is_empty() { 0 } else { 24 };
    let size = (WIDTH, HEAD + strip + height * lines as u32);
    let root = canvas(file, size, title, below)?;
    let (top, rest) = root.split_vertically(strip);
    let mut x = 20;
    for (name, colour) in legend {
        let line = PathElement::new([(x, 12), (x + 20, 12)], colour.stroke_width(3));
        top.draw(&line).map_err(failed)?;
        let text = Text::new(name.to_string(), (x + 26, 6), ("sans-serif", 13));
        top.draw(&text).map_err(failed)?;
        x += 60 + 7 * name.len() as i32;
    }
    for (area, (name, panel)) in rest.split_evenly((lines, columns)).iter().zip(panels) {
        let area = area.titled(name, ("sans-serif", 14)).map_err(failed)?;
        chart(&area, panel)?;
    }
    root.present().map_err(failed)
}
