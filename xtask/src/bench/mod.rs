//! `cargo xtask bench`: all measurements in one run on one machine, as values and as ratios with their spread.
//!
//! The programs take turns round by round, so that a machine that slows down affects all of them, and a ratio is taken
//! within one round. Nothing is asserted.

mod machine;
mod mallocs;
mod markdown;
mod plan;
mod plot;
mod program;
mod programs;
mod ratios;
mod report;
mod rounds;
mod sizes;
mod stats;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::context::Context;

pub use markdown::markdown;
pub use plan::{Args, OPERATIONS, Plan, THREADS};
pub use plot::draw;
pub use ratios::OF_OPERATIONS;
pub use report::{Report, Row};

pub fn run(args: &Args) -> Result<ExitCode> {
    let cx = Context::new(!args.no_install, 600)?;
    let plan = Plan::from(args)?;
    let report = measure(&cx, &plan)?;
    let ratios = markdown(&report);
    println!("{}\n{ratios}", report.table());
    let folder = cx.root.join(&args.plots);
    std::fs::create_dir_all(&folder)?;
    let (text, plot) = (folder.join("numbers.md"), folder.join("ratios.svg"));
    std::fs::write(&text, ratios)?;
    draw(&report, &plot)?;
    println!("ratios in {} and {}", text.display(), plot.display());
    let json = folder.join("bench.json");
    report.write(&json)?;
    println!("all values in {}", json.display());
    Ok(ExitCode::SUCCESS)
}

pub fn measure(cx: &Context, plan: &Plan) -> Result<Report> {
    let (programs, mut skipped) = programs::build(cx, plan)?;
    let before = machine::Machine::look();
    let mut samples = rounds::run(cx, plan, &programs, &mut skipped);
    if plan.wants("size") {
        samples.extend(sizes::all(cx, &mut skipped));
    }
    ensure!(!samples.is_empty(), "nothing was measured: {skipped:?}");
    let machine = before.after(&programs);
    Ok(Report::new(plan, machine, samples, skipped))
}

pub fn external(cx: &Context) -> Result<PathBuf> {
    program::compile(cx, Path::new("gcc"), "external.c", "example", &[])
}
