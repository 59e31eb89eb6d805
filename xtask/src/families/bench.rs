//! `cargo xtask bench` in its smallest form: that it runs and its document is whole. No time is judged.

use std::path::Path;

use serde_json::Value;

use super::{Family, Job, Selection};
use crate::arch::Arch;
use crate::bench::{self, OPERATIONS, Plan, THREADS};
use crate::install::Need;
use crate::lab::Lab;
use crate::outcome::{Cell, Outcome, Verdict};

/// The family.
pub struct Bench;

const NAME: &str = "bench";
const TEST: &str = "quick";

/// What must have rows where threads may run sections: the group, a row, a variant. [`OF_OPERATIONS`] are others.
const ROWS: [(&str, &str, &str); 12] = [
    ("cpu", "CPU number", "load"),
    ("cpu", "CPU number", "current_cpu"),
    ("cpu", "CPU number", "C interface"),
    ("cpu", "CPU number", "glibc, static"),
    ("hooks", "clone+exit", "keep"),
    ("hooks", "clone+exit", "release"),
    ("threads", "create+join", "std"),
    ("threads", "create+detach", "glibc, static"),
    ("ops", "add", "external"),
    ("structures", "Counter::add", "per-CPU"),
    ("contended", "aborts, threads: 2", "pop"),
    ("contended", "pool pop+push, threads: 8", "per-CPU"),
];

/// The group and the variants that each operation has, and with which numbers of threads.
const OF_OPERATIONS: [(&str, &[&str], &[u32]); 2] = [
    (
        "ops",
        &[
            "plain",
            "per-CPU",
            "per-CPU, release",
            "atomic",
            "per-CPU atomic, getcpu",
        ],
        &[],
    ),
    (
        "contended",
        &[
            "plain",
            "per-CPU, fetched",
            "shared atomic",
            "per-CPU atomic, getcpu",
        ],
        &[1, 2, 4, 8],
    ),
];

impl Family for Bench {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self, lab: &Lab, selection: &Selection) -> Vec<Need> {
        match self.list(lab, selection).is_empty() {
            true => vec![],
            false => vec![Need::new("gcc", &["gcc"], "the programs of the bench")],
        }
    }

    fn list(&self, _: &Lab, selection: &Selection) -> Vec<(Cell, String)> {
        let cell = cell().filter(|(arch, _)| {
            selection.wants_arch(*arch)
                && selection.wants_kernel_free()
                && selection.wants(NAME, TEST)
        });
        cell.into_iter()
            .map(|(_, cell)| (cell, TEST.to_owned()))
            .collect()
    }

    fn jobs<'lab>(&self, lab: &'lab Lab, selection: &Selection) -> Vec<Job<'lab>> {
        let listed = self.list(lab, selection).into_iter();
        listed
            .map(|(cell, _)| {
                Job::alone("the bench in its smallest form".to_owned(), move || {
                    let verdict = quick(lab).unwrap_or_else(Verdict::Failed);
                    vec![Outcome::new(&cell, NAME, TEST, verdict)]
                })
            })
            .collect()
    }
}

/// The column of this machine's own programs.
fn cell() -> Option<(Arch, Cell)> {
    let arch = Arch::host()?;
    let cell = Cell {
        order: 9,
        label: format!("{arch}/libcs"),
    };
    Some((arch, cell))
}

fn quick(lab: &Lab) -> Result<Verdict, String> {
    let external = bench::external(lab).map_err(|why| why.to_string())?;
    let plan = Plan {
        rounds: 2,
        milliseconds: 1,
        // Another family's work, and long.
        musl: false,
        only: ["cpu", "hooks", "threads", "ops", "structures", "contended"]
            .map(str::to_owned)
            .to_vec(),
        with: vec![("external".to_owned(), external)],
        ..Plan::quick()
    };
    let report = bench::measure(lab, &plan).map_err(|why| format!("{why:#}"))?;
    let folder = tempfile::tempdir().map_err(|why| why.to_string())?;
    let file = folder.path().join("bench.json");
    report.write(&file).map_err(|why| why.to_string())?;
    let plots = bench::draw(&report, folder.path()).map_err(|why| why.to_string())?;
    let text = std::fs::read_to_string(&file).map_err(|why| why.to_string())?;
    let document: Value = serde_json::from_str(&text).map_err(|why| why.to_string())?;
    if document["machine"]["rseq"]["runs_sections"] != Value::Bool(true) {
        let said = &document["machine"]["rseq"];
        return Ok(Verdict::Skipped(format!(
            "no thread may run a section here: {said}"
        )));
    }
    whole(&document, plan.rounds)?;
    for plot in &plots {
        is_svg(plot)?;
    }
    let count = |key: &str| document[key].as_array().map_or(0, Vec::len);
    let (rows, ratios) = (count("rows"), count("ratios"));
    Ok(Verdict::Passed(format!(
        "{rows} rows, {ratios} ratios, {} plots",
        plots.len()
    )))
}

/// All that must have rows; with those by mm_cid where the kernel has it.
fn expected(document: &Value) -> Vec<(&'static str, String, &'static str)> {
    let mut all: Vec<_> = ROWS
        .map(|(group, name, variant)| (group, name.to_owned(), variant))
        .to_vec();
    for name in OPERATIONS {
        if document["machine"]["rseq"]["feature_size"].as_u64() >= Some(28) {
            all.push(("ops", name.to_owned(), "per-CPU, mm_cid"));
        }
        for (group, variants, threads) in OF_OPERATIONS {
            let mut names: Vec<String> = threads
                .iter()
                .map(|n| format!("{name}{THREADS}{n}"))
                .collect();
            if names.is_empty() {
                names.push(name.to_owned());
            }
            for name in names {
                all.extend(
                    variants
                        .iter()
                        .map(|variant| (group, name.clone(), *variant)),
                );
            }
        }
    }
    all
}

/// Each expected row is there, and each row has a positive or zero number for each round.
fn whole(document: &Value, rounds: usize) -> Result<(), String> {
    if let Some(skipped) = document["skipped"]
        .as_array()
        .filter(|skipped| !skipped.is_empty())
    {
        return Err(format!("not measured: {skipped:?}"));
    }
    let rows = document["rows"].as_array().ok_or("no rows")?;
    for (group, name, variant) in expected(document) {
        let found = rows
            .iter()
            .any(|row| row["group"] == group && row["name"] == *name && row["variant"] == variant);
        if !found {
            return Err(format!("no row {group}, {name}, {variant}"));
        }
    }
    for row in rows {
        let samples = row["samples"].as_array().map_or(&[][..], Vec::as_slice);
        let good = samples
            .iter()
            // Nothing takes no time; of aborts there may be none.
            .filter(|sample| {
                let value = sample.as_f64();
                value.is_some_and(|value| value > 0.0 || (value == 0.0 && row["unit"] != "ns"))
            });
        if good.count() != rounds || row["what"].as_str().is_none_or(str::is_empty) {
            return Err(format!("an incomplete row: {row}"));
        }
    }
    let keys = ["cpu", "kernel", "mode", "arch"];
    match keys
        .iter()
        .find(|key| document["machine"][key].as_str().is_none_or(str::is_empty))
    {
        Some(key) => Err(format!("the machine has no {key}")),
        None if document["ratios"].as_array().is_none_or(Vec::is_empty) => {
            Err("no ratios".to_owned())
        }
        None => Ok(()),
    }
}

fn is_svg(file: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|why| why.to_string())?;
    if text.starts_with("<svg") && text.trim_end().ends_with("</svg>") {
        Ok(())
    } else {
        Err(format!("{} is no SVG", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_document_is_refused() {
        let row = |(group, name, variant): &(&str, String, &str)| serde_json::json!({"group": group, "name": name, "variant": variant, "what": "x", "samples": [1.0, 0.0]});
        let machine = serde_json::json!({"cpu": "x", "kernel": "x", "mode": "x", "arch": "x", "rseq": {"feature_size": 28}});
        let all = expected(&serde_json::json!({"machine": machine}));
        let rows: Vec<Value> = all.iter().map(row).collect();
        let good =
            serde_json::json!({"machine": machine, "rows": rows, "ratios": [1], "skipped": []});
        assert_eq!(whole(&good, 2), Ok(()));
        assert!(whole(&good, 3).is_err());
        let mut few = good.clone();
        few["rows"].as_array_mut().unwrap().pop();
        assert!(whole(&few, 2).is_err());
        let mut odd = good.clone();
        odd["rows"][0]["samples"][1] = Value::Null;
        assert!(whole(&odd, 2).is_err());
        let mut failed = good;
        failed["skipped"] = serde_json::json!([{"group": "cpu"}]);
        assert!(whole(&failed, 2).is_err());
    }
}
