//! The hardening property of an archive: x86_64's IBT and SHSTK, aarch64's BTI.
//!
//! A linker marks a program only if every object has the property, so a single object without it turns the hardening
//! off for all. rustc emits the landing pads, but LLVM drops the property when it optimises across crates (`core` comes
//! without pads). It is therefore added here, after the pads have been checked.

use std::path::Path;

use anyhow::{Result, ensure};
use object::elf::{
    R_AARCH64_ABS64, R_AARCH64_CALL26, R_AARCH64_JUMP26, R_X86_64_64, R_X86_64_PC32, R_X86_64_PLT32,
};
use object::{
    File, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationFlags, RelocationTarget,
    SectionIndex, SectionKind,
};

use crate::arch::Arch;

/// The section of the property.
pub const SECTION: &str = ".note.gnu.property";

/// The option of rustc. Both are unstable; the pads are checked below.
pub fn flag(arch: Arch) -> Option<&'static str> {
    match arch {
        Arch::X86_64 => Some("-Zcf-protection=full"),
        Arch::Aarch64 => Some("-Zbranch-protection=bti"),
        Arch::Riscv64 => None,
    }
}

/// The content of [`SECTION`] for an object that satisfies it. SHSTK requires that every return goes to its call site:
/// our code changes neither a return address nor the stack's.
pub fn mark(arch: Arch) -> Option<Vec<u8>> {
    const NT_GNU_PROPERTY_TYPE_0: u32 = 5;
    const AARCH64_FEATURE_1_AND: u32 = 0xc000_0000;
    const X86_FEATURE_1_AND: u32 = 0xc000_0002;
    const BTI: u32 = 1;
    const IBT_AND_SHSTK: u32 = 3;
    let (property, bits) = match arch {
        Arch::X86_64 => (X86_FEATURE_1_AND, IBT_AND_SHSTK),
        Arch::Aarch64 => (AARCH64_FEATURE_1_AND, BTI),
        Arch::Riscv64 => return None,
    };
    let name = u32::from_le_bytes(*b"GNU\0");
    // The note: lengths of name and content, type, name. The content: a property, the length of its value, padding.
    let words = [4, 16, NT_GNU_PROPERTY_TYPE_0, name, property, 4, bits, 0];
    Some(words.into_iter().flat_map(u32::to_le_bytes).collect())
}

/// Fails unless every function whose address can be taken begins with a landing pad.
pub fn check_pads(arch: Arch, object: &Path) -> Result<()> {
    let pad: &[u8] = match arch {
        Arch::X86_64 => &[0xf3, 0x0f, 0x1e, 0xfa],  // endbr64
        Arch::Aarch64 => &[0x5f, 0x24, 0x03, 0xd5], // bti c
        Arch::Riscv64 => return Ok(()),
    };
    let bytes = std::fs::read(object)?;
    let file = File::parse(&*bytes)?;
    let entries = entries(&file)?;
    for &(section, offset) in &entries {
        let section = file.section_by_index(section)?;
        let start = section.data()?.get(offset as usize..).unwrap_or_default();
        let name = section.name().unwrap_or_default();
        ensure!(
            start.starts_with(pad),
            "no landing pad at {name}+{offset:#x}"
        );
    }
    ensure!(!entries.is_empty(), "no function, so this proves nothing");
    Ok(())
}

/// Possible targets of an indirect branch: global functions, and local ones referenced by anything but a branch. Jump
/// tables hold distances rather than function addresses; their targets are the compiler's business.
fn entries(file: &File<'_>) -> Result<Vec<(SectionIndex, u64)>> {
    let is_code = |index| {
        let section = file.section_by_index(index);
        section.is_ok_and(|section| section.kind() == SectionKind::Text)
    };
    let mut entries: Vec<_> = file
        .symbols()
        .filter(|symbol| symbol.is_global())
        .filter_map(|symbol| Some((symbol.section_index()?, symbol.address())))
        .collect();
    for section in file.sections() {
        if section.name()?.starts_with(".eh_frame") {
            continue;
        }
        let data = section.data()?;
        for (at, relocation) in section.relocations() {
            let RelocationFlags::Elf { r_type } = relocation.flags() else {
                continue;
            };
            let refers = if section.kind() == SectionKind::Text {
                match r_type {
                    R_AARCH64_CALL26 | R_AARCH64_JUMP26 => false,
                    // Either relocation may belong to a branch or not, depending on the assembler. Before the
                    // displacement of a memory operand stands a ModRM byte, which never equals the opcode of a branch.
                    R_X86_64_PC32 | R_X86_64_PLT32 => {
                        let before = usize::try_from(at)?.checked_sub(1);
                        let before = before.and_then(|at| data.get(at));
                        before.is_some_and(|byte| byte & 0xc7 == 0x05)
                    }
                    _ => true,
                }
            } else {
                [R_X86_64_64, R_AARCH64_ABS64].contains(&r_type)
            };
            if let (true, RelocationTarget::Symbol(symbol)) = (refers, relocation.target()) {
                let symbol = file.symbol_by_index(symbol)?;
                entries.extend(symbol.section_index().map(|at| (at, symbol.address())));
            }
        }
    }
    entries.retain(|&(section, _)| is_code(section));
    entries.sort_unstable_by_key(|&(section, offset)| (section.0, offset));
    entries.dedup();
    Ok(entries)
}
