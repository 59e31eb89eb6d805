//! The host side of the tests: builds the guests, runs them natively, under qemu-user and as PID 1 on real kernels, and
//! judges them; and the commands that build what users link with.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod arch;
mod bench;
mod case;
mod cell;
mod compiler;
mod conform;
mod console;
mod context;
mod demo;
mod doctor;
mod elf;
mod families;
mod guests;
mod install;
mod machine;
mod matrix;
mod musl;
mod outcome;
mod percpu_header;
mod process;
mod progress;
mod schedule;
mod staticlib;
mod test;

/// Builds, boots and judges the guests of rseq-rt.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the minimal init: threads start, move over all CPUs, exit and are reclaimed, with proof.
    Demo(demo::Args),
    /// Run every test and print the matrix arch x kernel x test.
    Test(test::Args),
    /// Measure everything in one run on this machine: a table, JSON, and a plot.
    Bench(bench::Args),
    /// Make the static library for C, or its assembly source, with headers, pkg-config and CMake files.
    Staticlib(staticlib::Args),
    /// Build musl with every thread registered: DIR/bin/musl-gcc compiles and links against it.
    Musl(musl::Args),
    /// Make rseq-conform, which judges the system that it runs on by the rseq(2) ABI.
    Conform(conform::Args),
    /// Show whether rseq is in use, and if not, why: a table with remedies; or each thread of a running process.
    Doctor(doctor::Args),
}

fn main() -> ExitCode {
    let done = match &Cli::parse().command {
        Command::Demo(args) => demo::run(args),
        Command::Test(args) => test::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Staticlib(args) => staticlib::run(args),
        Command::Musl(args) => musl::run(args),
        Command::Conform(args) => conform::run(args),
        Command::Doctor(args) => doctor::run(args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}
