//! `cargo xtask test`: all families, one matrix, one last line.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use serde_json::json;

use crate::arch::Arch;
use crate::case::{self, Record, Selection};
use crate::context::Context;
use crate::families::FAMILIES;
use crate::install;
use crate::machine::place;
use crate::matrix::{self, Counts};
use crate::schedule;

/// `cargo xtask test`
#[derive(clap::Args)]
pub struct Args {
    /// List the tests instead of running them.
    #[arg(long)]
    list: bool,
    /// Only tests whose `family::name` contains this; may be repeated.
    #[arg(long, value_name = "SUBSTRING")]
    only: Vec<String>,
    /// Only this CPU; may be repeated.
    #[arg(long, value_enum)]
    arch: Vec<Arch>,
    /// Only this kernel: native, user, a name from xtask/src/machine/systems.rs (newest, 6.12, slice ...), a version
    /// such as 7.2, or with one --arch the path of a kernel image; may be repeated.
    #[arg(long)]
    kernel: Vec<String>,
    /// The weekly kernels too: realtime, release candidates, other numbers of CPUs, other options.
    #[arg(long, conflicts_with = "kernel")]
    all_kernels: bool,
    /// Skip required tests that this machine cannot run, instead of failing them.
    #[arg(long)]
    allow_missing: bool,
    /// Install nothing on this machine.
    #[arg(long)]
    no_install: bool,
    /// Also write the report to FILE; without FILE print it on standard output in place of the tables.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
    /// Rewrite the golden files from the generated text, instead of comparing.
    #[arg(long)]
    bless: bool,
    /// Seconds of silence before a guest counts as hung.
    #[arg(long, default_value_t = 400)]
    timeout: u64,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let mut cx = Context::new(!args.no_install, args.timeout)?;
    cx.only.clone_from(&args.only);
    cx.bless = args.bless;
    let selection = Selection {
        only: args.only.clone(),
        arches: args.arch.clone(),
        places: place::select(&cx, &args.kernel, &args.arch, args.all_kernels)?,
        any_kernel: args.kernel.is_empty(),
    };
    let rows = case::select(&cx, &selection, &FAMILIES);
    if args.list {
        for line in rows.iter().flat_map(|rows| rows.list(&cx)) {
            println!("{line}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    if rows.is_empty() {
        bail!("no test matches");
    }
    let needs: Vec<_> = rows.iter().flat_map(|rows| rows.needs(&cx)).collect();
    install::install(&cx, &needs);
    let jobs = rows.into_iter().flat_map(|rows| rows.jobs(&cx)).collect();
    let mut records = schedule::run(&cx, jobs);
    if args.allow_missing {
        matrix::allow_missing(&mut records);
    }
    let counts = Counts::of(&records);
    report(&cx, args, &records, counts)?;
    Ok(match counts.failed == 0 && counts.passed > 0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Prints the tables, or writes the document.
fn report(cx: &Context, args: &Args, records: &[Record], counts: Counts) -> Result<()> {
    let document = json!({
        "counts": counts,
        "seconds": cx.progress.elapsed().as_secs(),
        "outcomes": records,
    });
    let document = serde_json::to_string_pretty(&document)? + "\n";
    std::fs::write(cx.store().join("report.json"), &document)?;
    match &args.json {
        Some(file) if file.as_os_str() == "-" => print!("{document}"),
        file => {
            if let Some(file) = file {
                std::fs::write(file, &document)?;
            }
            print!("{}", matrix::render(records));
            println!("\n{}", counts.line());
        }
    }
    Ok(())
}
