//! `cargo xtask demo`: the minimal init, run once and shown.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use comfy_table::{Table, presets};
use serde_json::json;

use crate::arch::Arch;
use crate::cli::DemoArgs;
use crate::compiler;
use crate::guests::Guest;
use crate::install;
use crate::lab::Lab;
use crate::place::{self, Place};
use crate::process::tail;
use crate::table::{self, DemoTable};

/// Runs the command.
pub fn run(args: &DemoArgs) -> Result<ExitCode> {
    let lab = Lab::new(!args.no_install, args.timeout)?;
    let place = place(&lab, args)?;
    let mut needs = place.needs();
    needs.extend(compiler::needs(place.arch, lab.install, &lab.progress));
    install::install(&needs, lab.install, &lab.progress);

    let mut arguments = place.demo_arguments();
    if let Some(count) = args.threads {
        arguments.extend(["--threads".to_owned(), count.to_string()]);
    }
    let (kernel, console, table) = match lab.run(&place, Guest::Init, &arguments) {
        Ok(run) => {
            let guests_code = !place.boots();
            let table = table::parse(&run.finished.output, run.finished.end, guests_code);
            (run.kernel, run.finished.output, table)
        }
        Err(why) => {
            let failure = Some(format!("could not run: {why}"));
            (
                String::new(),
                String::new(),
                DemoTable {
                    failure,
                    ..DemoTable::default()
                },
            )
        }
    };
    let cell = place.cell(lab.known_version(&place).as_deref()).label;
    if args.json {
        print_json(&cell, &place, &kernel, &console, &table)?;
    } else {
        print_table(&cell, &kernel, &console, &table);
    }
    Ok(if table.failure.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Where the arguments say the demo should run.
fn place(lab: &Lab, args: &DemoArgs) -> Result<Place> {
    let host = Arch::host();
    let arch = args
        .arch
        .or(host)
        .context("this machine is none of the three CPUs: say --arch")?;
    let word = match &args.kernel {
        Some(word) => word,
        None if args.user => "user",
        None if host == Some(arch) => "native",
        None => anyhow::bail!("this machine is not {arch}: say --user, or --kernel newest"),
    };
    let meant = place::meant(lab, word, &[arch])?.into_iter().next();
    meant.with_context(|| format!("this machine is not {arch}"))
}

fn print_table(cell: &str, kernel: &str, console: &str, demo: &DemoTable) {
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

fn print_json(
    cell: &str,
    place: &Place,
    kernel: &str,
    console: &str,
    demo: &DemoTable,
) -> Result<()> {
    let threads: Vec<serde_json::Map<String, serde_json::Value>> = demo
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
    let totals: serde_json::Map<String, serde_json::Value> = demo
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

/// Numbers as numbers, `-` as nothing, the rest as text.
fn field_value(field: &str) -> serde_json::Value {
    match field.parse::<i64>() {
        Ok(number) => number.into(),
        Err(_) if field == "-" => serde_json::Value::Null,
        Err(_) => field.into(),
    }
}
