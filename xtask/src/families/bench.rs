//! `cargo xtask bench` in its smallest form: that it runs and its document is whole. No time is judged.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::bench::{self, OPERATIONS, Plan, THREADS};
use crate::case::{Case, Family};
use crate::cell::At;
use crate::context::Context;
use crate::install::Need;
use crate::outcome::Missing;

pub const FAMILY: Family = Family {
    name: "bench",
    cases: |_, at| match at {
        At::Libcs(_) => Ok(vec![Case::new("quick", quick)]),
        _ => Ok(vec![]),
    },
    needs: |_, _| vec![Need::new("gcc", &["gcc"], "the programs of the bench")],
};

/// Rows that must be there where threads may run sections: group, name, variant. [`OF_OPERATIONS`] are others.
const ROWS: [(&str, &str, &str); 14] = [
    ("cpu", "CPU number", "load"),
    ("cpu", "CPU number", "current_cpu"),
    ("cpu", "CPU number", "C interface"),
    ("cpu", "CPU number", "glibc, static"),
    ("hooks", "clone+exit", "keep"),
    ("hooks", "clone+exit", "release"),
    ("threads", "create+join", "std"),
    ("threads", "create+detach", "glibc, static"),
    ("ops", "add", "external"),
    ("ops", "add, chain", "per-CPU"),
    ("ops", "add, throughput", "plain + cycles"),
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

fn quick(cx: &Context) -> Result<String> {
    let groups = ["cpu", "hooks", "threads", "ops", "structures", "contended"];
    let plan = Plan {
        rounds: 2,
        milliseconds: 1,
        // Another family's work, and long.
        musl: false,
        only: groups.map(str::to_owned).to_vec(),
        with: vec![("external".to_owned(), bench::external(cx)?)],
        ..Plan::quick()
    };
    let report = bench::measure(cx, &plan)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bench.json");
    report.write(&file)?;
    ensure!(report.table().contains("CPU number"), "no table");
    let svg = std::fs::read_to_string(bench::draw(&report, folder.path())?)?;
    let document: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    let rseq = &document["machine"]["rseq"];
    if rseq["runs_sections"] != Value::Bool(true) {
        let why = format!("no thread may run a section here: {rseq}");
        return Err(Missing::optional(why));
    }
    whole(&document, plan.rounds)?;
    ensure!(
        bench::markdown(&report).contains("| add, chain |"),
        "no table of the ratios"
    );
    let ratios = report.ratios.len();
    let complete = svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>");
    // Three are the legend.
    let dots = svg.matches("<circle").count() - 3;
    ensure!(
        complete && dots == ratios,
        "{dots} dots for {ratios} ratios"
    );
    Ok(format!("{} rows, {ratios} ratios", report.rows.len()))
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
fn whole(document: &Value, rounds: usize) -> Result<()> {
    let skipped = document["skipped"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    ensure!(skipped.is_empty(), "not measured: {skipped:?}");
    let rows = document["rows"].as_array().context("no rows")?;
    for (group, name, variant) in expected(document) {
        let found = rows
            .iter()
            .any(|row| row["group"] == group && row["name"] == *name && row["variant"] == variant);
        ensure!(found, "no row {group}, {name}, {variant}");
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
        let described = row["what"].as_str().is_some_and(|what| !what.is_empty());
        ensure!(
            good.count() == rounds && described,
            "an incomplete row: {row}"
        );
    }
    for key in ["cpu", "kernel", "mode", "arch"] {
        let text = document["machine"][key].as_str();
        ensure!(
            text.is_some_and(|text| !text.is_empty()),
            "the machine has no {key}"
        );
    }
    let ratios = document["ratios"].as_array().map_or(0, Vec::len);
    ensure!(ratios > 0, "no ratios");
    Ok(())
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
        whole(&good, 2).unwrap();
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
