//! `cargo xtask bench` in its smallest form: it runs, and its document is complete. Times are not judged.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::bench::{self, OF_OPERATIONS, OPERATIONS, Plan, Report, Row, THREADS};
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

/// Rows that must exist where threads may run sections: group, name, variant; in addition to [`OF_OPERATIONS`].
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

/// Numbers of threads that are at a row of the group `contended`.
const AT_ONCE: [u32; 4] = [1, 2, 4, 8];

fn quick(cx: &Context) -> Result<String> {
    let groups = ["cpu", "hooks", "threads", "ops", "structures", "contended"];
    let plan = Plan {
        rounds: 2,
        milliseconds: 1,
        // Tested by another family, and slow.
        musl: false,
        only: groups.map(str::to_owned).to_vec(),
        with: vec![("external".to_owned(), bench::external(cx)?)],
        ..Plan::quick()
    };
    let report = bench::measure(cx, &plan)?;
    ensure!(report.table().contains("CPU number"), "no table");
    let folder = tempfile::tempdir()?;
    let (json, plot) = (folder.path().join("json"), folder.path().join("svg"));
    report.write(&json)?;
    bench::draw(&report, &plot)?;
    let document: Value = serde_json::from_str(&std::fs::read_to_string(json)?)?;
    let rows = document["rows"].as_array().map_or(0, Vec::len);
    ensure!(rows == report.rows.len(), "{rows} rows in the document");
    let rseq = &report.machine.rseq;
    if rseq["runs_sections"] != Value::Bool(true) {
        let why = format!("no thread may run a section here: {rseq}");
        return Err(Missing::optional(why));
    }
    whole(&report)?;
    ensure!(
        bench::markdown(&report).contains("| add, chain |"),
        "no table of the ratios"
    );
    let ratios = report.ratios.len();
    let plot = std::fs::read_to_string(plot)?;
    let dots = plot.matches("<circle").count();
    ensure!(
        dots == ratios && ratios > 0,
        "{dots} dots for {ratios} ratios"
    );
    ensure!(!plot.contains(">\n\n</text>"), "a row without a ratio");
    Ok(format!("{rows} rows, {ratios} ratios"))
}

/// All that must have rows; with those by mm_cid where the kernel has it.
fn expected(report: &Report) -> Vec<(&'static str, String, &'static str)> {
    let fixed = ROWS.map(|(group, name, variant)| (group, name.to_owned(), variant));
    let mut all = fixed.to_vec();
    let has_mm_cid = report.machine.rseq["feature_size"].as_u64() >= Some(28);
    for name in OPERATIONS {
        for (together, other, ours) in OF_OPERATIONS {
            for variant in [other, ours] {
                if together {
                    let row = |n| ("contended", format!("{name}{THREADS}{n}"), variant);
                    all.extend(AT_ONCE.map(row));
                } else if variant != "per-CPU, mm_cid" || has_mm_cid {
                    all.push(("ops", name.to_owned(), variant));
                }
            }
        }
    }
    all
}

/// Each expected row is there, and each row has a description, and a positive or zero number for each round.
fn whole(report: &Report) -> Result<()> {
    let Report { skipped, rows, .. } = report;
    ensure!(skipped.is_empty(), "not measured: {skipped:?}");
    for (group, name, variant) in expected(report) {
        let is_it = |row: &Row| {
            let row = &row.samples;
            (row.group, &*row.name, &*row.variant) == (group, &*name, variant)
        };
        ensure!(rows.iter().any(is_it), "no row {group}, {name}, {variant}");
    }
    for Row { samples: row, .. } in rows {
        // Nothing takes no time; of aborts there may be none.
        let is_good = |value: &Option<f64>| {
            value.is_some_and(|value| value > 0.0 || (value == 0.0 && row.unit != "ns"))
        };
        let complete = row.values.len() == report.rounds && row.values.iter().all(is_good);
        ensure!(
            complete && !row.what.is_empty(),
            "an incomplete row: {row:?}"
        );
    }
    Ok(())
}
