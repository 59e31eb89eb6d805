//! `include/rseq_rt_percpu_operations.h`: the sections of `arch/*/sections.rs` as C functions.

mod emit;
mod parse;
mod x86;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use self::parse::{Operation, Sections};
use crate::arch::Arch;

/// The file, relative to the repository.
pub const PATH: &str = "include/rseq_rt_percpu_operations.h";

/// The text of the file, from the crate's sources.
pub fn text(repository: &Path) -> Result<String> {
    let read = |path: &str| {
        fs::read_to_string(repository.join(path)).with_context(|| format!("reading {path}"))
    };
    let descriptor = read("src/percpu/template.rs")?;
    let operations = Operation::all(&read("src/percpu/operation.rs")?)?;
    let mut arches = Vec::new();
    for arch in Arch::ALL {
        let path = format!("arch/{arch}/sections.rs");
        let sections = Sections::read(&read(&path)?, &descriptor).with_context(|| path)?;
        arches.push((arch, sections));
    }
    emit::header(&operations, &arches)
}
