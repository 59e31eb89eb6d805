//! The host side of the tests: builds the freestanding guests, runs them
//! natively, under qemu-user and as PID 1 on real kernels, and judges them.

use std::process::ExitCode;

use clap::Parser;

mod apt;
mod arch;
mod archive;
mod bench;
mod built;
mod cargo;
mod cli;
mod compiler;
mod demo;
mod families;
mod guests;
mod hardening;
mod initramfs;
mod install;
mod kernel;
mod lab;
mod listing;
mod matrix;
mod musl;
mod outcome;
mod place;
mod process;
mod progress;
mod protocol;
mod schedule;
mod staticlib;
mod systems;
mod table;
mod test;
mod testlog;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let done = match &cli.command {
        cli::Command::Demo(args) => demo::run(args),
        cli::Command::Test(args) => test::run(args),
        cli::Command::Bench(args) => bench::run(args),
        cli::Command::Staticlib(args) => staticlib::run(args),
        cli::Command::Musl(args) => musl::run(args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}
