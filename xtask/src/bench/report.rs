//! What was measured, as a document.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::machine::Machine;
use super::programs::Skipped;
use super::ratios::{self, OfOperation, Ratio};
use super::rounds::Samples;
use super::size::Sizes;
use super::stats::Summary;
use super::{Plan, THREADS};

/// What a group's rows are compared with, where there is no plain one.
const BASES: [(&str, &str); 3] = [
    ("cpu", "vDSO"),
    ("hooks", "bare"),
    ("threads", "glibc, static"),
];

/// The whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What the numbers are of.
    pub machine: Machine,
    /// Rounds that count.
    pub rounds: usize,
    /// Rounds before them.
    pub warm_up: usize,
    /// Milliseconds of one value, of the shortest kind.
    pub milliseconds: u32,
    /// The rows.
    pub rows: Vec<Row>,
    /// The ratios that matter.
    pub ratios: Vec<Ratio>,
    /// The same ones of every operation.
    pub operation_ratios: Vec<OfOperation>,
    /// Bytes of text.
    pub sizes: Vec<Sizes>,
    /// What was not measured.
    pub skipped: Vec<Skipped>,
}

/// One row.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The group.
    pub group: &'static str,
    /// What was done.
    pub name: String,
    /// How.
    pub variant: String,
    /// In words.
    pub what: String,
    /// What the values count.
    pub unit: String,
    /// The middle and the spread of the values.
    pub value: Summary,
    /// How many times it takes what the base of its name takes, round by round.
    pub against: Option<Against>,
    /// The values, one a round.
    pub samples: Vec<Option<f64>>,
}

impl Row {
    /// The name without the number of threads, and that number.
    pub fn threads(&self) -> Option<(&str, u32)> {
        let (name, threads) = self.name.rsplit_once(THREADS)?;
        Some((name, threads.parse().ok()?))
    }
}

/// A comparison with a base.
#[derive(Clone, Debug, Serialize)]
pub struct Against {
    /// The base's variant.
    pub base: String,
    /// The ratio.
    #[serde(flatten)]
    pub ratio: Summary,
}

impl Report {
    /// Sums up.
    pub fn new(
        plan: &Plan,
        machine: Machine,
        samples: Vec<Samples>,
        sizes: Vec<Sizes>,
        skipped: Vec<Skipped>,
    ) -> Report {
        let ratios = ratios::all(&samples, machine.cpus);
        let operation_ratios = ratios::of_operations(&samples, machine.cpus);
        let row = |one: &Samples| {
            let against = base(&samples, one).and_then(|base| {
                let ratio = ratios::within(one, base)?;
                let base = base.variant.clone();
                Some(Against { base, ratio })
            });
            Some(Row {
                group: one.group,
                name: one.name.clone(),
                variant: one.variant.clone(),
                what: one.what.clone(),
                unit: one.unit.clone(),
                value: Summary::of(one.values.iter().copied().flatten())?,
                against,
                samples: one.values.clone(),
            })
        };
        Report {
            machine,
            rounds: plan.rounds,
            warm_up: plan.warm_up,
            milliseconds: plan.milliseconds,
            rows: samples.iter().filter_map(row).collect(),
            ratios,
            operation_ratios,
            sizes,
            skipped,
        }
    }

    /// Writes the document.
    pub fn write(&self, file: &Path) -> Result<()> {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(file, text + "\n").with_context(|| file.display().to_string())
    }
}

/// The row that `one` is compared with: the plain one of its name, or its group's.
fn base<'s>(samples: &'s [Samples], one: &Samples) -> Option<&'s Samples> {
    let of_group = BASES.iter().find(|(group, _)| *group == one.group);
    let mut bases = vec!["plain", "percpu", "mutex"];
    if let Some((_, base)) = of_group {
        bases.insert(0, base);
    }
    let same = |variant: &&str| {
        samples.iter().find(|row| {
            row.group == one.group
                && row.name == one.name
                && row.variant == *variant
                && row.unit == one.unit
        })
    };
    bases.iter().find_map(same)
}
