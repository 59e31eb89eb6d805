//! `cargo xtask test`: all families, one matrix, one last line.

use std::process::ExitCode;

use anyhow::{Result, bail};
use serde_json::json;

use crate::cli::TestArgs;
use crate::families::{self, Selection};
use crate::install;
use crate::lab::Lab;
use crate::matrix::{self, Counts};
use crate::outcome::Outcome;
use crate::place;
use crate::schedule;

/// Runs the command.
pub fn run(args: &TestArgs) -> Result<ExitCode> {
    let lab = Lab::new(!args.no_install, args.timeout)?;
    let selection = Selection {
        only: args.only.clone(),
        arches: args.arch.clone(),
        places: place::select(&lab, &args.kernel, &args.arch, args.all_kernels)?,
        any_kernel: args.kernel.is_empty(),
        bless: args.bless,
    };
    let families = families::all();
    if args.list {
        for family in &families {
            for (cell, test) in family.list(&lab, &selection) {
                println!("{} {}::{test}", cell.label, family.name());
            }
        }
        return Ok(ExitCode::SUCCESS);
    }

    let needs: Vec<_> = families
        .iter()
        .flat_map(|family| family.needs(&lab, &selection))
        .collect();
    install::install(&needs, lab.install, &lab.progress);
    let jobs: Vec<_> = families
        .iter()
        .flat_map(|family| family.jobs(&lab, &selection))
        .collect();
    if jobs.is_empty() {
        bail!("no test has such a name");
    }
    let mut outcomes = schedule::run(&lab, jobs);
    if args.allow_missing {
        matrix::allow_missing(&mut outcomes);
    }
    let counts = Counts::of(&outcomes);
    report(&lab, args, &outcomes, counts)?;
    Ok(if counts.failed == 0 && counts.passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The tables for people, the document for scripts.
fn report(lab: &Lab, args: &TestArgs, outcomes: &[Outcome], counts: Counts) -> Result<()> {
    let document = json!({
        "counts": counts,
        "seconds": lab.progress.elapsed().as_secs(),
        "outcomes": outcomes,
    });
    let document = serde_json::to_string_pretty(&document)? + "\n";
    std::fs::write(lab.store().join("report.json"), &document)?;
    match &args.json {
        Some(file) if file.as_os_str() == "-" => print!("{document}"),
        file => {
            if let Some(file) = file {
                std::fs::write(file, &document)?;
            }
            print!("{}", matrix::render(outcomes));
            println!("\n{}", counts.line());
        }
    }
    Ok(())
}
