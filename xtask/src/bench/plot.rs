//! The plot of the ratios: what is ahead, level and behind, at one look.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::ratios::{Ratio, Standing};
use super::report::Report;

/// Pixels: of the file, of the labels and the values beside the axis, of a line, and of the head.
const WIDTH: f64 = 1200.0;
const LABELS: f64 = 520.0;
const VALUES: f64 = 150.0;
const LINE: f64 = 18.0;
const HEAD: f64 = 84.0;
/// Between two labels of the axis, at least.
const APART: f64 = 48.0;

/// The standings, their colours, and their meaning.
const LEGEND: [(Standing, &str, &str); 3] = [
    (Standing::Ahead, "#1a7f37", "ahead: the other takes longer"),
    (Standing::Level, "#6e7781", "level"),
    (Standing::Behind, "#cf222e", "behind: ours takes longer"),
];

struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    /// From the least to the greatest of the quartiles, and 1, with some room.
    fn of(ratios: &[Ratio]) -> Axis {
        let low = ratios.iter().map(|ratio| ratio.summary.p25);
        let high = ratios.iter().map(|ratio| ratio.summary.p75);
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

    /// Powers of ten, and 2 and 5 between them, as far as their labels have room.
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
        let fine = all(&[1.0, 2.0, 5.0]);
        if fits(&fine) { fine } else { all(&[1.0]) }
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
    let groups = ratios.chunk_by(|one, other| one.group == other.group);
    let lines = ratios.len() + groups.clone().count();
    let end = HEAD + LINE * lines as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        end + 30.0
    );
    let title = "time of the other / time of ours, within a round; dot median, bar p25 to p75";
    text(&mut svg, (10.0, 22.0), "start", "#000", title);
    text(&mut svg, (10.0, 42.0), "start", "#000", machine);
    for (n, (_, colour, meaning)) in LEGEND.iter().enumerate() {
        text(
            &mut svg,
            (10.0 + 240.0 * n as f64, 62.0),
            "start",
            colour,
            &format!("\u{25cf} {meaning}"),
        );
    }
    for tick in axis.ticks() {
        let (x, colour) = (axis.x(tick), if tick == 1.0 { "#000" } else { "#d0d7de" });
        line(&mut svg, (x, HEAD), (x, end), colour, 1.0);
        text(
            &mut svg,
            (x, end + 16.0),
            "middle",
            "#000",
            &tick.to_string(),
        );
    }
    let mut y = HEAD + LINE / 2.0;
    for group in groups {
        let name = group.first().map_or("", |ratio| ratio.group);
        text(
            &mut svg,
            (10.0, y + 4.0),
            "start",
            "#000",
            &format!("[{name}]"),
        );
        y += LINE;
        for ratio in group {
            row(&mut svg, &axis, y, ratio);
            y += LINE;
        }
    }
    svg + "</svg>\n"
}

/// One ratio: its label, its bar and dot, and its numbers.
fn row(svg: &mut String, axis: &Axis, y: f64, ratio: &Ratio) {
    let standing = ratio.standing();
    let entry = LEGEND.iter().find(|(other, ..)| *other == standing);
    let colour = entry.map_or("#000", |(_, colour, _)| colour);
    let label = format!("{}: {} / {}", ratio.name, ratio.other, ratio.ours);
    text(svg, (LABELS - 10.0, y + 4.0), "end", "#000", &label);
    let [p25, median, p75] =
        [ratio.summary.p25, ratio.summary.median, ratio.summary.p75].map(|value| axis.x(value));
    line(svg, (p25, y), (p75, y), colour, 5.0);
    let _ = writeln!(
        svg,
        "<circle cx=\"{median:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>"
    );
    let (median, spread) = ratio.summary.show();
    let x = WIDTH - VALUES + 10.0;
    text(
        svg,
        (x, y + 4.0),
        "start",
        colour,
        &format!("{median} ({spread})"),
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
