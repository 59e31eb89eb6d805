//! `examples/minimal` on each CPU: built as a user builds it, and run natively or under qemu-user.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::arch::Arch;
use crate::case::Case;
use crate::compiler::{self, CORE};
use crate::context::Context;
use crate::outcome::Missing;
use crate::process::{command, optional_tool, output};

const PACKAGE: &str = "minimal";

pub fn cases() -> Vec<Case> {
    let case = |arch| Case::new(format!("example/{arch}"), move |cx| example(cx, arch));
    Arch::ALL.map(case).into()
}

fn example(cx: &Context, arch: Arch) -> Result<String> {
    // The families of that CPU require its compiler; the example alone does not.
    let program = build(cx, arch).map_err(Missing::excused)?;
    let mut run = match Arch::host() == Some(arch) {
        true => command(program),
        false => {
            let mut emulator = optional_tool(&arch.user_emulator())?;
            emulator.arg(program);
            emulator
        }
    };
    // It exits with 0 only if its counts are right.
    let said = output(&mut run, PACKAGE, 60)?;
    let thread = said.lines().find(|line| line.starts_with("thread: "));
    let counted = said.lines().last().context("it says nothing")?;
    Ok(format!("{}; {counted}", thread.unwrap_or_default()))
}

fn build(cx: &Context, arch: Arch) -> Result<PathBuf> {
    let folder = cx.root.join("target/embed/minimal");
    let mut build = compiler::find(cx, arch)?.cargo("build", CORE, arch.target());
    build
        .args(["--quiet", "--package", PACKAGE, "--target-dir"])
        .arg(&folder);
    compiler::build(cx, arch, build, "the example")?;
    Ok(folder.join(arch.target()).join("release").join(PACKAGE))
}
