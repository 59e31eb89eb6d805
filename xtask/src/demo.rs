//! `cargo xtask demo`: the minimal init, run once and shown.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use comfy_table::{Table, presets};
use serde_json::{Map, Value, json};

use crate::arch::Arch;
use crate::cell::At;
use crate::compiler;
use crate::console::{self, Demo};
use crate::context::Context;
use crate::guests;
use crate::install;
use crate::machine::boot;
use crate::machine::place::{self, Place};
use crate::outcome::tail;

/// `cargo xtask demo`
#[derive(clap::Args)]
pub struct Args {
    /// The CPU (default: this machine's).
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Boot it as PID 1 on this kernel: the path of an image, newest, a version such as 7.2 or 6.12, or another name from
    /// xtask/src/machine/systems.rs.
    #[arg(long, conflicts_with = "user")]
    kernel: Option<String>,
    /// Run it under qemu-user, which has no rseq(2).
    #[arg(long)]
    user: bool,
    /// Number of joinable and of self-unmapping threads.
    #[arg(long)]
    threads: Option<u32>,
    /// Print one JSON document and nothing else on standard output.
    #[arg(long)]
    json: bool,
    /// Install nothing on this machine.
    #[arg(long)]
    no_install: bool,
    /// Seconds of silence before a guest counts as hung.
    #[arg(long, default_value_t = 400)]
    timeout: u64,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let cx = Context::new(!args.no_install, args.timeout)?;
    let place = place(&cx, args)?;
    let mut needs = place.needs();
    needs.extend(compiler::needs(&cx, place.arch));
    install::install(&cx, &needs);

    let mut arguments = place.demo_arguments().to_vec();
    let count = args.threads.map(|count| count.to_string());
    if let Some(count) = &count {
        arguments.extend(["--threads", count]);
    }
    let run = guests::guest(&cx, place.arch, "init")
        .and_then(|init| boot::run(&cx, place, &init, &[], &arguments));
    let (kernel, console, demo) = match run {
        Ok(run) => {
            let finished = run.finished;
            let demo = console::demo(&finished.output, finished.end, !place.boots());
            (run.kernel, finished.output, demo)
        }
        Err(why) => {
            let demo = Demo {
                failure: Some(format!("could not run: {why:#}")),
                ..Demo::default()
            };
            (String::new(), String::new(), demo)
        }
    };
    let cell = At::Place(place).cell(&cx).label;
    if args.json {
        print_json(&cell, place, &kernel, &console, &demo)?;
    } else {
        print_table(&cell, &kernel, &console, &demo);
    }
    Ok(match demo.failure {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    })
}

/// The place that the arguments select.
fn place(cx: &Context, args: &Args) -> Result<Place> {
    let arch = Arch::or_host(args.arch)?;
    let word = match &args.kernel {
        Some(word) => word,
        None if args.user => "user",
        None if Arch::host() == Some(arch) => "native",
        None => bail!("this machine is not {arch}: say --user, or --kernel newest"),
    };
    let meant = place::meant(cx, word, &[arch])?.into_iter().next();
    meant.with_context(|| format!("this machine is not {arch}"))
}

fn print_table(cell: &str, kernel: &str, console: &str, demo: &Demo) {
    let kernel = if kernel.is_empty() {
        String::new()
    } else {
        format!(", {kernel}")
    };
    println!("rseq-rt demo on {cell}{kernel}");
    for line in &demo.banner {
        println!("{line}");
    }
    for (key, value) in &demo.facts {
        println!("{key}: {value}");
    }
    if !demo.rows.is_empty() {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        table.set_header(demo.columns.iter().map(|name| name.replace('_', " ")));
        table.add_rows(&demo.rows);
        println!("{table}");
    }
    if !demo.totals.is_empty() {
        println!("{}", demo.summary());
    }
    match &demo.failure {
        None => println!("passed"),
        Some(why) => {
            println!("--- console\n{}\n---", tail(console, 60));
            println!("failed: {why}");
        }
    }
}

fn print_json(cell: &str, place: Place, kernel: &str, console: &str, demo: &Demo) -> Result<()> {
    let threads: Vec<Map<String, Value>> = demo
        .rows
        .iter()
        .map(|row| {
            demo.columns
                .iter()
                .cloned()
                .zip(row.iter().map(|field| field_value(field)))
                .collect()
        })
        .collect();
    let totals: Map<String, Value> = demo
        .totals
        .iter()
        .map(|(key, value)| (key.clone(), field_value(value)))
        .collect();
    let document = json!({
        "cell": cell,
        "arch": place.arch,
        "kernel": kernel,
        "facts": demo.facts,
        "threads": threads,
        "totals": totals,
        "passed": demo.failure.is_none(),
        "failure": demo.failure,
        "console": demo.failure.as_ref().map(|_| tail(console, 60)),
    });
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}

/// Numbers as numbers, `-` as null, anything else as text.
fn field_value(field: &str) -> Value {
    match field.parse::<i64>() {
        Ok(number) => number.into(),
        Err(_) if field == "-" => Value::Null,
        Err(_) => field.into(),
    }
}
