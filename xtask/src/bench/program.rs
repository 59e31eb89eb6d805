//! A program to measure: how it is compiled and started.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::context::Context;
use crate::process::{command, output, set_glibc_rseq, tool};

/// One run of one program, once in each round.
#[derive(Clone, Debug)]
pub struct Program {
    /// The group of its rows.
    pub group: &'static str,
    /// The variant of lines that name none.
    pub variant: String,
    /// Measuring time of its values, as a multiple of the shortest.
    pub weight: u32,
    pub file: PathBuf,
    pub arguments: Vec<String>,
    pub libc_owns: bool,
    /// A library for LD_PRELOAD.
    pub preload: Option<PathBuf>,
}

impl Program {
    /// The command line, for values of that many milliseconds.
    pub fn command(&self, milliseconds: u32) -> Command {
        let mut run = command(&self.file);
        run.args(&self.arguments)
            .env("BENCH_MS", (milliseconds * self.weight).to_string());
        set_glibc_rseq(&mut run, self.libc_owns);
        if let Some(library) = &self.preload {
            run.env("LD_PRELOAD", library);
        }
        run
    }
}

/// Compiles a file of `tests-qemu/bench/c` with a user's flags.
pub fn compile(
    cx: &Context,
    gcc: &Path,
    source: &str,
    name: &str,
    more: &[&str],
) -> Result<PathBuf> {
    let folder = cx.root.join("target/bench-build");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{}-{name}", source.trim_end_matches(".c")));
    let mut compile = tool(&gcc.display().to_string())?;
    compile
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
        .arg(&file)
        .arg(cx.root.join("tests-qemu/bench/c").join(source))
        .args(more);
    output(&mut compile, source, 300)?;
    Ok(file)
}
