//! Properties of a linked file that every linker must preserve.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use object::elf::{PF_X, PT_LOAD, PT_TLS};
use object::read::elf::{ElfSection64, ProgramHeader as _, SectionHeader as _};
use object::{LittleEndian, Object as _, ObjectKind, ObjectSection as _, ObjectSymbol as _};

use super::file::{Elf, parse};

/// The descriptors and both arrays are present, aligned, in a loaded non-executable segment, and equal in number; the
/// abort handlers are in the text, with no linker veneer in between.
pub fn sections(bytes: &[u8]) -> anyhow::Result<String> {
    let elf = parse(bytes)?;
    ensure!(
        elf.section_by_name("__rseq_failure").is_none(),
        "the abort handlers have a section of their own"
    );
    for symbol in elf.symbols() {
        let name = symbol.name().unwrap_or_default();
        ensure!(
            !name.contains("veneer") && !name.contains("Thunk"),
            "the linker made {name}"
        );
    }
    let descriptors = entries(&elf, "__rseq_cs", 32, 32)?;
    let pointers = entries(&elf, "__rseq_cs_ptr_array", 8, 8)?;
    let exits = entries(&elf, "__rseq_exit_point_array", 16, 8)?;
    let count = descriptors.1.len();
    ensure!(
        pointers.1.len() == count,
        "{count} descriptors and {} pointers to them",
        pointers.1.len()
    );
    // In a position-independent file a loader fills in the addresses.
    if elf.kind() == ObjectKind::Executable {
        fixed(&descriptors, &pointers.1, &exits.1)?;
    }
    Ok(format!("{count} descriptors, {} exits", exits.1.len()))
}

/// The address of a section, and its entries as words.
pub(super) type Entries = (u64, Vec<Vec<u64>>);

/// A section of `size`-byte entries.
pub(super) fn entries(
    elf: &Elf<'_>,
    name: &str,
    size: usize,
    align: u64,
) -> anyhow::Result<Entries> {
    let section = elf
        .section_by_name(name)
        .with_context(|| format!("{name} is gone"))?;
    let data = section.data()?;
    ensure!(
        !data.is_empty() && data.len() % size == 0,
        "{name} has {} bytes",
        data.len()
    );
    let stated = section.elf_section_header().sh_addralign(elf.endian());
    ensure!(
        stated >= align && section.address() % align == 0,
        "{name} is aligned to {stated}"
    );
    ensure!(
        is_loaded_data(elf, &section),
        "{name} is in no loaded segment of data"
    );
    let words = |entry: &[u8]| {
        let words = entry
            .chunks_exact(8)
            .filter_map(|word| word.try_into().ok());
        words.map(u64::from_le_bytes).collect()
    };
    Ok((
        section.address(),
        data.chunks_exact(size).map(words).collect(),
    ))
}

fn is_loaded_data(elf: &Elf<'_>, section: &ElfSection64<'_, '_, LittleEndian>) -> bool {
    let endian = elf.endian();
    let (start, end) = (section.address(), section.address() + section.size());
    elf.elf_program_headers().iter().any(|segment| {
        let (from, length) = (segment.p_vaddr(endian), segment.p_filesz(endian));
        segment.p_type(endian) == PT_LOAD
            && from <= start
            && end <= from + length
            && segment.p_flags(endian).0 & PF_X.0 == 0
    })
}

/// Each descriptor is pointed to once, and its exits lie outside of the section.
fn fixed(
    (at, descriptors): &Entries,
    pointers: &[Vec<u64>],
    exits: &[Vec<u64>],
) -> anyhow::Result<()> {
    let places = (0..descriptors.len() as u64).map(|nth| at + 32 * nth);
    let pointed: BTreeSet<u64> = pointers.iter().flatten().copied().collect();
    ensure!(
        places.eq(pointed.iter().copied()),
        "__rseq_cs_ptr_array points elsewhere"
    );
    for descriptor in descriptors {
        let [_, start, length, _] = descriptor[..] else {
            continue;
        };
        let own = exits.iter().filter(|exit| exit.first() == Some(&start));
        let mut leads: Vec<u64> = own.filter_map(|exit| exit.get(1).copied()).collect();
        leads.dedup();
        ensure!(!leads.is_empty(), "{start:#x} has no exit");
        ensure!(
            !leads.iter().any(|to| (start..start + length).contains(to)),
            "an exit of {start:#x} leads inside"
        );
    }
    Ok(())
}

/// A PT_TLS over both parts, and an array for each kind of function that runs before and after main.
pub fn init(bytes: &[u8]) -> anyhow::Result<String> {
    let elf = parse(bytes)?;
    let endian = elf.endian();
    let header = elf
        .elf_program_headers()
        .iter()
        .find(|segment| segment.p_type(endian) == PT_TLS)
        .context("no PT_TLS")?;
    let (file, memory) = (header.p_filesz(endian), header.p_memsz(endian));
    ensure!(
        file != 0 && memory > file,
        "PT_TLS has {file} bytes in the file and {memory} in memory"
    );
    for name in [".preinit_array", ".init_array", ".fini_array"] {
        let section = elf
            .section_by_name(name)
            .with_context(|| format!("{name} is gone"))?;
        ensure!(
            section.size() != 0 && is_loaded_data(&elf, &section),
            "{name} is empty, or in no loaded segment of data"
        );
    }
    Ok(format!("{memory} bytes of TLS"))
}
