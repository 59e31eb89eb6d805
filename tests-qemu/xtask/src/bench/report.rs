//! What was measured, as a document and as tables.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::machine::Machine;
use super::programs::Skipped;
use super::ratios::{self, Ratio};
use super::rounds::Samples;
use super::size::Sizes;
use super::stats::Summary;
use super::{GROUPS, Plan};

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

    /// All tables.
    pub fn tables(&self) -> String {
        let mut text = format!("{}\n", self.machine.line());
        let _ = writeln!(
            text,
            "{} rounds after {} of warm-up; the middle of them, and the two quarters; nothing is subtracted",
            self.rounds, self.warm_up
        );
        for group in GROUPS {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.group == group).collect();
            if !rows.is_empty() {
                let _ = writeln!(text, "\n{group}\n{}", group_table(&rows));
            }
        }
        if !self.ratios.is_empty() {
            let _ = writeln!(
                text,
                "\nratios, each within a round\n{}",
                ratio_table(&self.ratios)
            );
        }
        if !self.sizes.is_empty() {
            let hooks = size_table(&self.sizes, |one| &one.bytes);
            let operations = size_table(&self.sizes, |one| &one.operations);
            let _ = writeln!(text, "\nbytes of text: the hooks\n{hooks}");
            let _ = writeln!(
                text,
                "\nbytes of text: a function of one operation, and its abort handler\n{operations}"
            );
        }
        for skipped in &self.skipped {
            let Skipped {
                group,
                variant,
                why,
            } = skipped;
            let _ = writeln!(text, "not measured: {group}, {variant}, because {why}");
        }
        text
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

fn table(header: &[&str], numbers: std::ops::Range<usize>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.iter().copied());
    for column in numbers {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn group_table(rows: &[&Row]) -> Table {
    let header = ["row", "variant", "ns", "spread", "times", "spread", "what"];
    let mut table = table(&header, 2..6);
    for row in rows {
        let (value, spread) = row.value.show();
        let value = if row.unit == "ns" {
            value
        } else {
            format!("{value} {}", row.unit)
        };
        let (times, times_spread) = match &row.against {
            Some(against) if against.base == row.variant => ("1".to_owned(), String::new()),
            Some(against) => against.ratio.show(),
            None => Default::default(),
        };
        table.add_row([
            &row.name,
            &row.variant,
            &value,
            &spread,
            &times,
            &times_spread,
            &row.what,
        ]);
    }
    table
}

fn ratio_table(ratios: &[Ratio]) -> Table {
    let mut table = table(
        &["time of", "over time of", "ratio", "spread", "wanted"],
        2..4,
    );
    for ratio in ratios {
        let (value, spread) = ratio.summary.show();
        table.add_row([&ratio.of, &ratio.over, &value, &spread, ratio.aim]);
    }
    table
}

/// One row for each thing, one column for each CPU.
fn size_table(sizes: &[Sizes], of: impl Fn(&Sizes) -> &[(String, u64)]) -> Table {
    let arches = sizes.iter().map(|one| one.arch.name());
    let header: Vec<&str> = std::iter::once("").chain(arches).collect();
    let mut table = table(&header, 1..header.len());
    for (name, _) in of(&sizes[0]) {
        let bytes = |one: &Sizes| {
            let found = of(one).iter().find(|(other, _)| other == name);
            found.map_or_else(String::new, |(_, bytes)| bytes.to_string())
        };
        table.add_row(std::iter::once(name.clone()).chain(sizes.iter().map(bytes)));
    }
    table
}
