//! The plot of the ratios: what is ahead, level and behind, at one look.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::ratios::{Ratio, Standing};
use super::report::Report;
use super::stats::digits;

/// Pixels: of the file, of the labels and the values beside the axis, of a line, of the head.
const WIDTH: f64 = 1340.0;
const LABELS: f64 = 560.0;
const VALUES: f64 = 310.0;
const LINE: f64 = 18.0;
const HEAD: f64 = 118.0;
/// Below the last line.
const FOOT: f64 = 40.0;
/// Between two labels of the axis, at least.
const APART: f64 = 40.0;

const BLACK: &str = "#1f2328";
/// Behind the rows: where ours is slower, and where it is faster.
const SLOWER: &str = "#fdeff0";
const FASTER: &str = "#eaf6ec";

/// The standings, their colours, and their meaning.
const LEGEND: [(Standing, &str, &str); 3] = [
    (Standing::Ahead, "#1a7f37", "ahead: ours is faster"),
    (Standing::Level, "#6e7781", "level, within 5 %"),
    (Standing::Behind, "#cf222e", "behind: ours is slower"),
];

struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    /// From the least to the greatest of the quartiles and the aims, and 1, with some room.
    fn of(ratios: &[Ratio]) -> Axis {
        let aims = || ratios.iter().filter_map(|ratio| ratio.at_least);
        let low = ratios.iter().map(|ratio| ratio.summary.p25).chain(aims());
        let high = ratios.iter().map(|ratio| ratio.summary.p75).chain(aims());
        Axis {
            low: low.filter(|&value| value > 0.0).fold(1.0, f64::min) / 1.3,
            high: high.fold(1.0, f64::max) * 1.3,
        }
    }

    /// Where a value lies; what the axis cannot show is at its start.
    fn x(&self, value: f64) -> f64 {
        let share = (value.max(self.low) / self.low).ln() / (self.high / self.low).ln();
        LABELS + share * (WIDTH - LABELS - VALUES)
    }

    /// Powers of ten, and between them 2 and 5, or 3, as far as their labels have room.
    fn ticks(&self) -> Vec<f64> {
        let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let all = |factors: &[f64]| -> Vec<f64> {
            let each = decades.clone().flat_map(|power| {
                let factors = factors.iter();
                factors.map(move |factor| factor * 10f64.powi(power))
            });
            each.filter(|value| (self.low..=self.high).contains(value))
                .collect()
        };
        let fits = |ticks: &Vec<f64>| {
            let gaps = ticks.windows(2).map(|two| self.x(two[1]) - self.x(two[0]));
            gaps.fold(f64::MAX, f64::min) >= APART
        };
        let candidates = [all(&[1.0, 2.0, 5.0]), all(&[1.0, 3.0])];
        let fine = candidates.into_iter().find(fits);
        fine.unwrap_or_else(|| all(&[1.0]))
    }
}

/// Draws the ratios of a report into `folder`; the file.
pub fn draw(report: &Report, folder: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let file = folder.join("ratios.svg");
    std::fs::write(&file, svg(&report.ratios, &report.machine.line()))?;
    Ok(file)
}

fn svg(ratios: &[Ratio], machine: &str) -> String {
    let axis = Axis::of(ratios);
    let end = HEAD + LINE * ratios.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n",
        end + FOOT
    );
    rectangle(&mut svg, (0.0, 0.0), (WIDTH, end + FOOT), "white");
    head(&mut svg, machine);
    scale(&mut svg, &axis, end);
    let mut y = HEAD + LINE / 2.0;
    for group in ratios.chunk_by(|one, other| one.group == other.group) {
        let top = y - LINE / 2.0;
        line(&mut svg, (0.0, top), (WIDTH, top), "#afb8c1", 1.0);
        let name = group.first().map_or("", |ratio| ratio.group);
        text(&mut svg, (10.0, y + 4.0), "start", BLACK, name);
        for ratio in group {
            row(&mut svg, &axis, y, ratio);
            y += LINE;
        }
    }
    svg + "</svg>\n"
}

/// What is shown, of which machine, and what the marks mean.
fn head(svg: &mut String, machine: &str) {
    let title = "How many times as long the other takes as ours: other / ours, within a round (dot: median, bar: p25 to p75)";
    text(svg, (10.0, 22.0), "start", BLACK, title);
    text(svg, (10.0, 42.0), "start", BLACK, machine);
    for (n, (_, colour, meaning)) in LEGEND.iter().enumerate() {
        let x = 10.0 + 190.0 * n as f64;
        dot(svg, (x + 5.0, 60.0), colour);
        text(svg, (x + 16.0, 64.0), "start", colour, meaning);
    }
    let x = 10.0 + 190.0 * LEGEND.len() as f64;
    aim(svg, (x + 5.0, 60.0));
    let meaning = "aim: the dot is to be there or right of it";
    text(svg, (x + 16.0, 64.0), "start", BLACK, meaning);
}

/// The two sides of 1, and the ticks, with their labels above and below.
fn scale(svg: &mut String, axis: &Axis, end: f64) {
    let (start, one, last) = (axis.x(axis.low), axis.x(1.0), axis.x(axis.high));
    rectangle(svg, (start, HEAD), (one - start, end - HEAD), SLOWER);
    rectangle(svg, (one, HEAD), (last - one, end - HEAD), FASTER);
    let [(_, green, _), _, (_, red, _)] = LEGEND;
    let y = HEAD - 26.0;
    text(svg, (one - 8.0, y), "end", red, "\u{2190} slower");
    text(svg, (one + 8.0, y), "start", green, "ours faster \u{2192}");
    for tick in axis.ticks() {
        let x = axis.x(tick);
        let (colour, width) = if tick == 1.0 {
            (BLACK, 1.5)
        } else {
            ("#d0d7de", 1.0)
        };
        line(svg, (x, HEAD), (x, end), colour, width);
        let label = (tick * 1e6).round() / 1e6;
        for y in [HEAD - 8.0, end + 16.0] {
            text(svg, (x, y), "middle", BLACK, &label.to_string());
        }
    }
}

/// One ratio: its label, its bar, dot and aim, and its numbers.
fn row(svg: &mut String, axis: &Axis, y: f64, ratio: &Ratio) {
    let standing = ratio.standing();
    let entry = LEGEND.iter().find(|(other, ..)| *other == standing);
    let colour = entry.map_or(BLACK, |(_, colour, _)| colour);
    let label = format!("{}: {} / {}", ratio.name, ratio.other, ratio.ours);
    text(svg, (LABELS - 10.0, y + 4.0), "end", BLACK, &label);
    let [p25, median, p75] =
        [ratio.summary.p25, ratio.summary.median, ratio.summary.p75].map(|value| axis.x(value));
    line(svg, (p25, y), (p75, y), colour, 5.0);
    dot(svg, (median, y), colour);
    let (median, spread) = ratio.summary.show();
    let x = WIDTH - VALUES + 10.0;
    let numbers = format!("{median} ({spread})");
    text(svg, (x, y + 4.0), "start", colour, &numbers);
    let Some(least) = ratio.at_least else {
        return;
    };
    aim(svg, (axis.x(least), y));
    let [(_, green, _), _, (_, red, _)] = LEGEND;
    let (verdict, colour) = match ratio.misses() {
        true => ("missed", red),
        false => ("met", green),
    };
    let verdict = format!("aim {} {verdict}", digits(least));
    text(svg, (WIDTH - 10.0, y + 4.0), "end", colour, &verdict);
}

fn dot(svg: &mut String, (x, y): (f64, f64), colour: &str) {
    let _ = writeln!(
        svg,
        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>"
    );
}

/// A bracket that opens to where the dot is wanted.
fn aim(svg: &mut String, (x, y): (f64, f64)) {
    let (top, bottom) = (y - 7.0, y + 7.0);
    line(svg, (x, top), (x, bottom), BLACK, 2.0);
    for y in [top, bottom] {
        line(svg, (x, y), (x + 5.0, y), BLACK, 2.0);
    }
}

fn rectangle(svg: &mut String, (x, y): (f64, f64), (width, height): (f64, f64), colour: &str) {
    let _ = writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
    );
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, colour: &str, text: &str) {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{escaped}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_the_axis_do_not_touch() {
        for (low, high) in [(0.5, 3.0), (0.4, 40.0), (0.01, 3000.0)] {
            let axis = Axis { low, high };
            let ticks = axis.ticks();
            let apart = |two: &[f64]| axis.x(two[1]) - axis.x(two[0]) >= APART;
            assert!(
                ticks.contains(&1.0) && ticks.windows(2).all(apart),
                "{ticks:?}"
            );
        }
    }
}
