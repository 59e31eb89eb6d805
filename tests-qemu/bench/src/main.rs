//! Measures one group of rows, on one CPU, and prints a JSON line for each value.
//!
//! ```text
//! bench cpu | hooks | threads | ops | structures | contended | facts
//! ```
//!
//! `BENCH_MS` is the time for one value, in milliseconds. The lines have the format that `cargo xtask bench --with`
//! reads from any program; the runner starts this one once per round.

mod atomic;
mod contended;
mod cpu;
mod facts;
mod here;
mod hooks;
mod measure;
mod operations;
mod ops;
mod pipeline;
mod plain;
mod slot;
mod structures;
mod threads;
mod together;
mod vdso;

use std::process::ExitCode;

fn main() -> ExitCode {
    let group = std::env::args().nth(1).unwrap_or_default();
    let run: fn() = match group.as_str() {
        "cpu" => cpu::run,
        "hooks" => hooks::run,
        "threads" => threads::run,
        "ops" => ops::run,
        "structures" => structures::run,
        "contended" => contended::run,
        "facts" => facts::run,
        _ => {
            eprintln!("bench: which group? cpu, hooks, threads, ops, structures, contended, facts");
            return ExitCode::from(2);
        }
    };
    if group != "contended" {
        measure::pin(measure::last_cpu());
    }
    run();
    ExitCode::SUCCESS
}
