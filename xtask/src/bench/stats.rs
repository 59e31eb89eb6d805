//! Median and quartiles.

use serde::Serialize;

/// Quartiles over the rounds, by nearest rank.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub median: f64,
    pub p25: f64,
    pub p75: f64,
    pub min: f64,
    pub max: f64,
}

impl Summary {
    /// `None` without values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Summary> {
        let mut values: Vec<f64> = values
            .into_iter()
            .filter(|value| value.is_finite())
            .collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        // Quartiles round outwards, so that few values do not look closer together than they are.
        let at = |rank: f64| values[rank as usize];
        let rank = |share: f64| last as f64 * share;
        Some(Summary {
            median: at(rank(0.5).round()),
            p25: at(rank(0.25).floor()),
            p75: at(rank(0.75).ceil()),
            min: at(0.0),
            max: at(rank(1.0)),
        })
    }

    /// The summary of the inverses.
    pub fn inverse(&self) -> Summary {
        Summary {
            median: 1.0 / self.median,
            p25: 1.0 / self.p75,
            p75: 1.0 / self.p25,
            min: 1.0 / self.max,
            max: 1.0 / self.min,
        }
    }

    /// Median and quartiles, to three significant digits.
    pub fn show(&self) -> (String, String) {
        let spread = format!("{}..{}", digits(self.p25), digits(self.p75));
        (digits(self.median), spread)
    }
}

/// Three significant digits, no exponent.
pub fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_the_middle() {
        let one = Summary::of([5.0, 1.0, f64::NAN, 3.0, 2.0, 4.0]).unwrap();
        assert_eq!(
            [one.min, one.p25, one.median, one.p75, one.max],
            [1.0, 2.0, 3.0, 4.0, 5.0]
        );
        assert_eq!(Summary::of([]), None);
        let shown = [0.4162, 1.0, 12.34, 20497.7].map(digits);
        assert_eq!(shown, ["0.416", "1.00", "12.3", "20498"]);
    }
}
