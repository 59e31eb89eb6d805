//! The green threads' own measuring program.

use std::path::PathBuf;

use super::Plan;
use super::programs::{Program, Skipped};
use crate::arch::Arch;
use crate::families::green_program;
use crate::lab::Lab;
use crate::outcome::Trouble;

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
    let none = || Trouble::Missing("this machine is none of the three CPUs".to_owned());
    green_program(lab, Arch::host().ok_or_else(none)?)
}

/// `green/QUEUE/CARRIERS` as a row's name and a variant.
pub fn split(name: &str) -> Option<(String, String)> {
    let mut parts = name.strip_prefix("green/")?.split('/');
    let (queue, carriers) = (parts.next()?, parts.next()?);
    Some((format!("switch, carriers: {carriers}"), queue.to_owned()))
}
