//! The code of each per-CPU operation, read from a program that has each as a function.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

use super::file::parse;
use super::listing::Listing;
use super::sections::entries;
use crate::arch::Arch;

/// Functions that only load a CPU or concurrency number.
pub const NUMBERS: [&str; 2] = ["number_cpu_id", "number_mm_cid"];

pub struct Operation {
    pub name: String,
    /// The instructions of its section, independent of addresses and registers.
    pub section: Vec<String>,
    /// The number of instructions from call to return, undisturbed.
    pub straight: usize,
    /// Bytes of the function and of the abort handler.
    pub bytes: u64,
}

/// The prefix of sections that do not belong to this crate.
const OWN: &str = "own_";

impl Operation {
    /// Whether it is one of the crate's.
    pub fn is_pinned(&self) -> bool {
        !self.name.starts_with(OWN)
    }

    /// Whether its commit is a release where the name says so. By its lines: an emulator on x86_64 keeps all stores in
    /// order, and so nothing that runs there shows it.
    pub fn is_ordered(&self, arch: Arch) -> bool {
        if arch == Arch::X86_64 || !self.name.ends_with("_release") {
            return true;
        }
        let [.., before, commit] = &*self.section else {
            return false;
        };
        match arch {
            Arch::Riscv64 => before == "fence rw,w",
            _ => commit.starts_with("stlr "),
        }
    }
}

/// The operations of the crate.
pub fn read(arch: Arch, file: &Path) -> Result<Vec<Operation>> {
    let mut operations = all(arch, file)?;
    operations.retain(Operation::is_pinned);
    Ok(operations)
}

/// Every symbol with a critical section, found by the descriptors, whose form is checked.
pub fn all(arch: Arch, file: &Path) -> Result<Vec<Operation>> {
    let listing = Listing::of(arch, file)?;
    let bytes = std::fs::read(file)?;
    let elf = parse(&bytes)?;
    let (_, descriptors) = entries(&elf, "__rseq_cs", 32, 32)?;
    let text = elf.section_by_name(".text").context("no .text")?;
    let (text, code) = (text.address(), text.data()?);
    let mut operations = Vec::new();
    for symbol in elf.symbols() {
        let name = symbol.name().unwrap_or_default();
        if NUMBERS.contains(&name) {
            operations.push(Operation {
                name: name.to_owned(),
                section: listing.function(symbol.address()),
                straight: listing.straight(symbol.address()).unwrap_or(usize::MAX),
                bytes: symbol.size(),
            });
        }
    }
    for descriptor in descriptors {
        let [flags, start, length, abort] = descriptor[..] else {
            bail!("a descriptor of another size");
        };
        let before = abort.wrapping_sub(text).wrapping_sub(4) as usize;
        let signature = code
            .get(before..before + 4)
            .and_then(|word| word.try_into().ok());
        ensure!(
            flags == 0 && signature.map(u32::from_le_bytes) == Some(SIGNATURES[arch as usize]),
            "the descriptor of {start:#x} has no signature before {abort:#x}"
        );
        ensure!(
            !(start..start + length).contains(&abort),
            "the abort handler of {start:#x} is inside"
        );
        // Identical code may have several names.
        for symbol in elf
            .symbols()
            .filter(|symbol| symbol.address() < start && start < symbol.address() + symbol.size())
        {
            let straight = listing.straight(symbol.address()).unwrap_or(usize::MAX);
            operations.push(Operation {
                name: symbol.name().unwrap_or_default().to_owned(),
                section: listing.section(start, start + length),
                straight,
                // The handler lies behind the function, outside of its symbol.
                bytes: symbol.size() + listing.behind_jump(abort) - (abort - 4),
            });
        }
    }
    operations.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(operations)
}

const SIGNATURES: [u32; 3] = [0x5305_3053, 0xd428_bc00, 0xf140_1073];
