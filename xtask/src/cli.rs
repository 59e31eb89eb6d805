//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::arch::Arch;
use crate::musl::{Release, Variant};

/// Builds, boots and judges the guests of rseq-rt.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Run the minimal init: threads are born, move over all CPUs, die and are reclaimed with proof.
    Demo(DemoArgs),
    /// Run every test and print the matrix arch x kernel x test.
    Test(TestArgs),
    /// Measure, in one run on this machine: tables, JSON, and plots.
    Bench(BenchArgs),
    /// Make the static library for C: DIR/lib/librseq_rt.a, its header and its pkg-config files.
    Staticlib(StaticlibArgs),
    /// Build musl with every thread registered: DIR/bin/musl-gcc compiles and links against it.
    Musl(MuslArgs),
}

/// `cargo xtask demo`
#[derive(Args)]
pub struct DemoArgs {
    /// The CPU (default: this machine's).
    #[arg(long, value_enum)]
    pub arch: Option<Arch>,
    /// Boot it as PID 1 on this kernel: the path of an image, newest, a version such as 7.2 or 6.12, or another name in
    /// xtask/src/systems.rs.
    #[arg(long, conflicts_with = "user")]
    pub kernel: Option<String>,
    /// Run it under qemu-user, which has no rseq(2).
    #[arg(long)]
    pub user: bool,
    /// How many joinable and how many self-unmapping threads.
    #[arg(long)]
    pub threads: Option<u32>,
    /// Print one JSON document and nothing else on standard output.
    #[arg(long)]
    pub json: bool,
    /// Install nothing on this machine.
    #[arg(long)]
    pub no_install: bool,
    /// Seconds without a word until a guest is taken for hung.
    #[arg(long, default_value_t = 400)]
    pub timeout: u64,
}

/// `cargo xtask test`
#[derive(Args)]
pub struct TestArgs {
    /// List the tests instead of running them.
    #[arg(long)]
    pub list: bool,
    /// Only tests whose `family::name` contains this; may be repeated.
    #[arg(long, value_name = "SUBSTRING")]
    pub only: Vec<String>,
    /// Only this CPU; may be repeated.
    #[arg(long, value_enum)]
    pub arch: Vec<Arch>,
    /// Only this kernel: native, user, the name of one in xtask/src/systems.rs (newest, 6.12, slice ...), a
    /// version such as 7.2, or with one --arch the path of a kernel image; may be repeated.
    #[arg(long)]
    pub kernel: Vec<String>,
    /// The weekly kernels too: realtime, release candidates, other numbers of CPUs, other options.
    #[arg(long, conflicts_with = "kernel")]
    pub all_kernels: bool,
    /// A required test that this machine cannot run is skipped, not failed.
    #[arg(long)]
    pub allow_missing: bool,
    /// Install nothing on this machine.
    #[arg(long)]
    pub no_install: bool,
    /// Also write the report to FILE; without FILE print it on standard output in place of the tables.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
    /// Write the golden files anew from what is generated, instead of comparing.
    #[arg(long)]
    pub bless: bool,
    /// Seconds without a word until a guest is taken for hung.
    #[arg(long, default_value_t = 400)]
    pub timeout: u64,
}

/// `cargo xtask bench`
#[derive(Args)]
pub struct BenchArgs {
    /// Only the groups whose names contain this (cpu, hooks, threads, ops, structures, contended, green, size); may be repeated.
    #[arg(long, value_name = "SUBSTRING")]
    pub only: Vec<String>,
    /// Few rounds and short ones: to see that it works, not what it costs.
    #[arg(long)]
    pub quick: bool,
    /// How many rounds count (default: 15, quick 3).
    #[arg(long)]
    pub rounds: Option<usize>,
    /// A program to measure beside ours, which prints lines as tests-qemu/bench/c/external.c says; may be repeated.
    #[arg(long, value_name = "NAME=PROGRAM")]
    pub with: Vec<String>,
    /// Where the values go (default: bench.json beside the plots).
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Where the SVG plots go.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub plots: PathBuf,
    /// Install nothing on this machine.
    #[arg(long)]
    pub no_install: bool,
}

/// `cargo xtask staticlib`
#[derive(Args)]
pub struct StaticlibArgs {
    /// The CPU (default: this machine's).
    #[arg(long, value_enum)]
    pub arch: Option<Arch>,
    /// Where lib/ and include/ are made.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Make librseq_rt_trio.a, which defines `__rseq_offset`, `__rseq_size` and `__rseq_flags`: the caller is the libc.
    #[arg(long)]
    pub trio: bool,
    /// Install nothing on this machine.
    #[arg(long)]
    pub no_install: bool,
}

/// `cargo xtask musl`
#[derive(Args)]
pub struct MuslArgs {
    /// The CPU (default: this machine's).
    #[arg(long, value_enum)]
    pub arch: Option<Arch>,
    /// Where bin/musl-gcc, include/ and lib/ are made.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Whose source package: bookworm has musl 1.2.3, trixie 1.2.5.
    #[arg(long, value_enum, default_value = "bookworm")]
    pub release: Release,
    /// Programs register their threads only with MUSL_RSEQ=1 in their environment. Without this option they do unless it
    /// holds MUSL_RSEQ=0, for sandboxes that kill for rseq(2).
    #[arg(long, conflicts_with = "variant")]
    pub off: bool,
    /// For the tests: musl as it comes, or with a hook at the wrong place.
    #[arg(long, value_enum, default_value = "hooked", hide = true)]
    pub variant: Variant,
    /// Install and fetch nothing on this machine.
    #[arg(long)]
    pub no_install: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
