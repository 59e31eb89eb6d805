//! The rounds, and the output lines of the programs.

use serde::{Deserialize, Serialize};

use super::plan::{GROUPS, Plan};
use super::program::Program;
use super::programs::Skipped;
use crate::context::Context;
use crate::process::output;

/// A line: `{"name": NAME, "ns": TIME}`, or a value with its unit; all other fields are optional.
#[derive(Debug, Deserialize)]
struct Line {
    name: String,
    variant: Option<String>,
    ns: Option<f64>,
    value: Option<f64>,
    unit: Option<String>,
    what: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Samples {
    pub group: &'static str,
    pub name: String,
    pub variant: String,
    /// The name in words.
    pub what: String,
    pub unit: String,
    /// One per round; `None` where the round had none.
    #[serde(rename = "samples")]
    pub values: Vec<Option<f64>>,
}

pub fn run(
    cx: &Context,
    plan: &Plan,
    programs: &[Program],
    skipped: &mut Vec<Skipped>,
) -> Vec<Samples> {
    let mut rows: Vec<Samples> = Vec::new();
    let mut failed = vec![false; programs.len()];
    if programs.is_empty() {
        return rows;
    }
    for turn in 0..plan.warm_up + plan.rounds {
        let counted = turn.checked_sub(plan.warm_up);
        let title = match counted {
            Some(round) => format!("round {} of {}", round + 1, plan.rounds),
            None => "warm-up".to_owned(),
        };
        let _step = cx.step(title);
        for (program, failed) in programs.iter().zip(&mut failed) {
            if *failed {
                continue;
            }
            match output(&mut program.command(plan.milliseconds), "the program", 300) {
                Ok(said) => {
                    if let Some(round) = counted {
                        take(&mut rows, program, &said, round, plan.rounds);
                    }
                }
                Err(why) => {
                    *failed = true;
                    skipped.push(Skipped {
                        group: program.group.to_owned(),
                        variant: program.variant.clone(),
                        why: format!("{why:#}"),
                    });
                }
            }
        }
    }
    let place = |row: &Samples| GROUPS.iter().position(|&group| group == row.group);
    let names: Vec<(&str, String)> = rows
        .iter()
        .map(|row| (row.group, row.name.clone()))
        .collect();
    // By group, then by order of first appearance, so that the variants of other programs stand beside ours.
    let first = |row: &Samples| {
        let same = |(group, name): &(&str, String)| *group == row.group && *name == row.name;
        names.iter().position(same)
    };
    rows.sort_by_key(|row| (place(row), first(row)));
    rows
}

fn take(rows: &mut Vec<Samples>, program: &Program, output: &str, round: usize, rounds: usize) {
    let lines = output.lines().filter(|line| line.starts_with('{'));
    for line in lines.filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
        let Some(value) = line.ns.or(line.value) else {
            continue;
        };
        let (name, variant) = green(&line.name).unwrap_or_else(|| {
            let variant = line.variant.unwrap_or_else(|| program.variant.clone());
            (line.name, variant)
        });
        let is_it = |row: &&mut Samples| {
            row.group == program.group && row.name == name && row.variant == variant
        };
        let row = match rows.iter_mut().find(is_it) {
            Some(row) => row,
            None => {
                let unit = if line.ns.is_some() {
                    "ns".to_owned()
                } else {
                    line.unit.unwrap_or_default()
                };
                rows.push(Samples {
                    group: program.group,
                    name,
                    variant,
                    what: line.what.unwrap_or_default(),
                    unit,
                    values: vec![None; rounds],
                });
                let last = rows.len() - 1;
                &mut rows[last]
            }
        };
        row.values[round] = Some(value);
    }
}

/// `green/QUEUE/CARRIERS` as a row name and a variant.
fn green(name: &str) -> Option<(String, String)> {
    let (queue, carriers) = name.strip_prefix("green/")?.split_once('/')?;
    Some((format!("switch, carriers: {carriers}"), queue.to_owned()))
}
