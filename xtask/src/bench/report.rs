//! The measurements, as a JSON document and as a table.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::machine::Machine;
use super::plan::Plan;
use super::programs::Skipped;
use super::ratios::{self, Ratio};
use super::rounds::Samples;
use super::stats::Summary;

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub rounds: usize,
    /// Warm-up rounds.
    pub warm_up: usize,
    pub milliseconds: u32,
    pub rows: Vec<Row>,
    pub ratios: Vec<Ratio>,
    pub skipped: Vec<Skipped>,
}

/// The values of one row, and their summary.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    #[serde(flatten)]
    pub samples: Samples,
    /// Median and quartiles.
    pub value: Summary,
}

impl Report {
    pub fn new(
        plan: &Plan,
        machine: Machine,
        samples: Vec<Samples>,
        skipped: Vec<Skipped>,
    ) -> Report {
        let ratios = ratios::all(&samples, machine.cpus);
        let row = |one: &Samples| {
            Some(Row {
                samples: one.clone(),
                value: Summary::of(one.values.iter().copied().flatten())?,
            })
        };
        Report {
            machine,
            rounds: plan.rounds,
            warm_up: plan.warm_up,
            milliseconds: plan.milliseconds,
            rows: samples.iter().filter_map(row).collect(),
            ratios,
            skipped,
        }
    }

    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(file, text + "\n").with_context(|| file.display().to_string())
    }

    /// One line per row: median and quartiles. Descriptions are in the document.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(["group", "row", "variant", "median", "p25..p75", "unit"]);
        for column in [3, 4] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for row in &self.rows {
            let samples = &row.samples;
            let (value, spread) = row.value.show();
            table.add_row([
                samples.group,
                &samples.name,
                &samples.variant,
                &value,
                &spread,
                &samples.unit,
            ]);
        }
        let Report {
            rounds, warm_up, ..
        } = self;
        let mut text = format!(
            "{}\n{rounds} rounds after {warm_up} of warm-up; nothing is subtracted\n{table}\n",
            self.machine.line()
        );
        for skipped in &self.skipped {
            let _ = writeln!(
                text,
                "not measured: {}, {}, because {}",
                skipped.group, skipped.variant, skipped.why
            );
        }
        text
    }
}
