//! The plan of `cargo xtask bench`: groups, rounds, durations.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};

/// `cargo xtask bench`
#[derive(clap::Args)]
pub struct Args {
    /// Only the groups whose names contain this (cpu, hooks, threads, ops, structures, contended, green, malloc, size); may be repeated.
    #[arg(long, value_name = "SUBSTRING")]
    pub only: Vec<String>,
    /// Few and short rounds: checks that it works, measures nothing useful.
    #[arg(long)]
    pub quick: bool,
    /// Rounds that count (default: 15, quick 3).
    #[arg(long)]
    pub rounds: Option<usize>,
    /// A program to measure beside ours, which prints lines as tests-qemu/bench/c/external.c says; may be repeated.
    #[arg(long, value_name = "NAME=PROGRAM")]
    pub with: Vec<String>,
    /// Where the values, the plot and the tables of the ratios go.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub plots: PathBuf,
    /// Install nothing on this machine.
    #[arg(long)]
    pub no_install: bool,
}

/// The groups of rows, in the order of the table.
pub const GROUPS: [&str; 9] = [
    "cpu",
    "hooks",
    "threads",
    "ops",
    "structures",
    "contended",
    "green",
    "malloc",
    "size",
];

/// The operations, as they are named in the programs' rows.
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

/// Separates the name of a row from its number of threads.
pub const THREADS: &str = ", threads: ";

#[derive(Clone, Debug)]
pub struct Plan {
    /// Substrings of group names; empty means all.
    pub only: Vec<String>,
    /// Rounds that count.
    pub rounds: usize,
    /// Warm-up rounds, which do not count.
    pub warm_up: usize,
    pub milliseconds: u32,
    pub musl: bool,
    /// The user's own programs: variant name and file.
    pub with: Vec<(String, PathBuf)>,
}

impl Plan {
    /// Few and short rounds: checks that it works, measures nothing useful.
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

    /// The plan for a command line.
    pub fn from(args: &Args) -> Result<Plan> {
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
                bail!("no group contains {part}: {}", GROUPS.join(", "));
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

    pub fn wants(&self, group: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| group.contains(part.as_str()))
    }
}
