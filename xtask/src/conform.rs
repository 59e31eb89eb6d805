//! `cargo xtask conform`: builds the program that judges a system by the rseq(2) ABI, as one static file.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::arch::Arch;
use crate::compiler;
use crate::context::Context;
use crate::guests::guest;
use crate::install;

/// `cargo xtask conform`
#[derive(clap::Args)]
pub struct Args {
    /// The CPU (default: this machine's).
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// The output file: run `FILE --help` on any Linux of that CPU.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Install nothing on this machine.
    #[arg(long)]
    no_install: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let cx = Context::new(!args.no_install, 600)?;
    let arch = Arch::or_host(args.arch)?;
    install::install(&cx, &compiler::needs(&cx, arch));
    let program = guest(&cx, arch, "conform")?;
    let out = &args.out;
    std::fs::copy(&program, out).with_context(|| out.display().to_string())?;
    println!("{}", out.display());
    Ok(ExitCode::SUCCESS)
}
