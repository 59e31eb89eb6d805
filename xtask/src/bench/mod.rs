//! `cargo xtask bench`: everything in one run on one machine, as values and as ratios with their spread.
//!
//! The programs take turns, round for round, so that a machine that gets slower does so for all of them, and a
//! ratio is taken within a round. Nothing is asserted: the numbers are told, whatever they are.

mod green;
mod machine;
mod plot;
mod programs;
mod ratios;
mod report;
mod rounds;
mod size;
mod stats;
mod tables;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};

use crate::cli::BenchArgs;
use crate::lab::Lab;

pub use report::Report;

/// The groups of rows, in the order in which they are told.
pub const GROUPS: [&str; 8] = [
    "cpu",
    "hooks",
    "threads",
    "ops",
    "structures",
    "contended",
    "green",
    "size",
];

/// The operations, as the programs name their rows.
pub const OPERATIONS: [&str; 8] = [
    "add",
    "add_through",
    "compare_and_store",
    "compare_two_and_store",
    "compare_store_and_store",
    "compare_link_and_store",
    "pop",
    "compare_copy_and_store, 64 bytes",
];

/// Between the name of a row and the number of threads that were at it.
pub const THREADS: &str = ", threads: ";

/// What to measure, and how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Parts of the groups' names; none means all.
    pub only: Vec<String>,
    /// Rounds that count.
    pub rounds: usize,
    /// Rounds before them that do not.
    pub warm_up: usize,
    /// Milliseconds of one value, of the shortest kind.
    pub milliseconds: u32,
    /// Whether both musls are built and measured.
    pub musl: bool,
    /// Programs of the user's: the variant's name, and the file.
    pub with: Vec<(String, PathBuf)>,
}

impl Plan {
    /// Few and short: to see that it works, not what it costs.
    pub fn quick() -> Plan {
        Plan {
            only: vec![],
            rounds: 3,
            warm_up: 0,
            milliseconds: 2,
            musl: true,
            with: vec![],
        }
    }

    fn from(args: &BenchArgs) -> Result<Plan> {
        let full = Plan {
            rounds: 15,
            warm_up: 1,
            milliseconds: 10,
            ..Plan::quick()
        };
        let mut plan = if args.quick { Plan::quick() } else { full };
        plan.only.clone_from(&args.only);
        plan.rounds = args.rounds.unwrap_or(plan.rounds);
        ensure!(plan.rounds > 0, "--rounds 0 measures nothing");
        for part in &plan.only {
            if !GROUPS.iter().any(|group| group.contains(part.as_str())) {
                bail!("no group is like {part}: {}", GROUPS.join(", "));
            }
        }
        for with in &args.with {
            let (name, program) = with.split_once('=').context("--with NAME=PROGRAM")?;
            let program = std::fs::canonicalize(program)
                .with_context(|| format!("--with {name}: {program}"))?;
            plan.with.push((name.to_owned(), program));
        }
        Ok(plan)
    }

    /// Whether the rows of `group` are wanted.
    pub fn wants(&self, group: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| group.contains(part.as_str()))
    }
}

/// Runs the command.
pub fn run(args: &BenchArgs) -> Result<ExitCode> {
    let lab = Lab::new(!args.no_install, 600)?;
    let plan = Plan::from(args)?;
    let report = measure(&lab, &plan)?;
    print!("{}", tables::all(&report));
    let plots = lab.root.join(&args.plots);
    let drawn = plot::draw(&report, &plots)?;
    println!("{} plots in {}", drawn.len(), plots.display());
    let json = args.json.clone();
    let json = json.unwrap_or_else(|| plots.join("bench.json"));
    report.write(&json)?;
    println!("all values in {}", json.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds, measures, and sums up.
pub fn measure(lab: &Lab, plan: &Plan) -> Result<Report> {
    let (programs, mut skipped) = programs::build(lab, plan)?;
    let machine_before = machine::Machine::look();
    let samples = rounds::run(lab, plan, &programs, &mut skipped);
    let sizes = if plan.wants("size") {
        size::all(lab, &mut skipped)
    } else {
        vec![]
    };
    ensure!(
        !samples.is_empty() || !sizes.is_empty(),
        "nothing was measured: {skipped:?}"
    );
    let machine = machine_before.after(&programs);
    Ok(Report::new(plan, machine, samples, sizes, skipped))
}

/// Draws the plots of a report into `folder`; the files.
pub fn draw(report: &Report, folder: &std::path::Path) -> Result<Vec<PathBuf>> {
    plot::draw(report, folder)
}

/// The example of a program of the user's, compiled.
pub fn external(lab: &Lab) -> Result<PathBuf> {
    programs::compile(
        lab,
        std::path::Path::new("gcc"),
        "external.c",
        "example",
        &[],
    )
    .map_err(|why| anyhow::anyhow!("{why}"))
}
