//! Text sizes in bytes, as rows beside the timings.

use anyhow::Result;

use super::programs::Skipped;
use super::rounds::Samples;
use crate::arch::Arch;
use crate::context::Context;
use crate::elf::{self, operations, proofs};
use crate::guests::guest;

/// Text sizes for each CPU with a compiler: the hooks, and one function per operation by `cpu_id` with a relaxed
/// commit, abort handler included.
pub fn all(cx: &Context, skipped: &mut Vec<Skipped>) -> Vec<Samples> {
    let mut rows = Vec::new();
    for arch in Arch::ALL {
        match of(cx, arch) {
            Ok(sizes) => rows.extend(sizes),
            Err(why) => skipped.push(Skipped {
                group: "size".to_owned(),
                variant: arch.name().to_owned(),
                why: format!("{why:#}"),
            }),
        }
    }
    rows.sort_by_key(|row: &Samples| (row.what.clone(), row.name.clone()));
    rows
}

fn of(cx: &Context, arch: Arch) -> Result<Vec<Samples>> {
    let bytes = std::fs::read(guest(cx, arch, "sizes")?)?;
    let hooks = proofs::hook_sizes(&elf::parse(&bytes)?)?;
    let operations = operations::read(arch, &guest(cx, arch, "golden")?)?;
    let operations = operations.into_iter().filter_map(|operation| {
        let name = operation.name.strip_suffix("_relaxed")?;
        Some((name.to_owned(), operation.bytes))
    });
    let row = |what: &'static str| {
        move |(name, bytes): (String, u64)| Samples {
            group: "size",
            name,
            variant: arch.name().to_owned(),
            what: what.to_owned(),
            unit: "bytes".to_owned(),
            values: vec![Some(bytes as f64)],
        }
    };
    let hooks = hooks.into_iter().map(row("text of a hook"));
    let operations = operations.map(row("text of an operation and its abort handler"));
    Ok(hooks.chain(operations).collect())
}
