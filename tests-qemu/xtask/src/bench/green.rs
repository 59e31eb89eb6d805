//! The green threads' own measuring program, where the tree has it.

use std::path::PathBuf;
use std::time::Duration;

use super::Plan;
use super::programs::{Program, Skipped};
use crate::arch::Arch;
use crate::compiler;
use crate::guests;
use crate::lab::Lab;
use crate::outcome::Trouble;
use crate::process;

const MANIFEST: &str = "examples/green/Cargo.toml";

/// Adds it. Its lines are named `green/QUEUE/CARRIERS`.
pub fn add(lab: &Lab, plan: &Plan, programs: &mut Vec<Program>, skipped: &mut Vec<Skipped>) {
    if !plan.wants("green") {
        return;
    }
    // One turn takes some tens of nanoseconds, and the program is told the turns.
    let switches = (u64::from(plan.milliseconds) * 200).to_string();
    let words = ["bench", "--repeats", "1", "--switches", &switches];
    match build(lab) {
        Ok(file) => programs.push(Program {
            group: "green",
            variant: "rseq-rt".to_owned(),
            weight: 1,
            file,
            arguments: words.map(str::to_owned).to_vec(),
            libc_owns: false,
        }),
        Err(why) => skipped.push(Skipped {
            group: "green".to_owned(),
            variant: "rseq-rt".to_owned(),
            why: why.to_string(),
        }),
    }
}

fn build(lab: &Lab) -> Result<PathBuf, Trouble> {
    let missing = |why: &str| Err(Trouble::Missing(why.to_owned()));
    if !lab.root.join(MANIFEST).exists() {
        return missing("this tree has no green threads");
    }
    let Some(arch) = Arch::host() else {
        return missing("this machine is none of the three CPUs");
    };
    let compiler = compiler::find(arch, lab.install, &lab.progress)
        .map_err(|why| Trouble::Missing(format!("{why:#}")))?;
    let target_dir = lab.root.join("target/guests").join(arch.name());
    let mut build = compiler.build();
    build
        .args(["--release", "--bins", "--manifest-path", MANIFEST])
        .args(["--target", arch.target(), "--target-dir"])
        .arg(&target_dir)
        .current_dir(&lab.root)
        .env("CARGO_TERM_COLOR", "never")
        .env("CARGO_ENCODED_RUSTFLAGS", guests::flags(&lab.root));
    let built = process::run(&mut build, Duration::from_secs(1800))
        .map_err(|why| Trouble::Missing(format!("cargo did not start: {why}")))?;
    if !built.ok() {
        return Err(Trouble::Broken(built.tail(6)));
    }
    Ok(target_dir.join(arch.target()).join("release/green"))
}

/// `green/QUEUE/CARRIERS` as a row's name and a variant.
pub fn split(name: &str) -> Option<(String, String)> {
    let mut parts = name.strip_prefix("green/")?.split('/');
    let (queue, carriers) = (parts.next()?, parts.next()?);
    Some((format!("switch, carriers: {carriers}"), queue.to_owned()))
}
