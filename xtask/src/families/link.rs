//! Proofs about the release link of the minimal init, read from the file.

use anyhow::Result;

use crate::case::{Case, Family};
use crate::cell::At;
use crate::context::Context;
use crate::elf::proofs::{
    code_size, no_panic_unwind_alloc, no_writable_code, rseq_cs_is_loaded, stack_not_executable,
};
use crate::elf::{self, Elf};
use crate::guests::{guest, guest_needs};

pub const FAMILY: Family = Family {
    name: "link",
    cases,
    needs: guest_needs,
};

/// A proof: name, guest, and check of the file.
type Proof = (&'static str, &'static str, fn(&Elf<'_>) -> Result<String>);

const PROOFS: [Proof; 5] = [
    ("no_panic_unwind_alloc", "init", no_panic_unwind_alloc),
    ("stack_not_executable", "init", stack_not_executable),
    ("no_writable_code", "init", no_writable_code),
    ("rseq_cs_is_loaded", "golden", rseq_cs_is_loaded),
    ("code_size", "sizes", code_size),
];

fn cases(_: &Context, at: At) -> Result<Vec<Case>> {
    let At::Link(arch) = at else {
        return Ok(vec![]);
    };
    let case = |(name, program, proof): Proof| {
        Case::new(name, move |cx| {
            let bytes = std::fs::read(guest(cx, arch, program)?)?;
            proof(&elf::parse(&bytes)?)
        })
    };
    Ok(PROOFS.map(case).into())
}
