//! Mutants of a program's critical sections: an instruction dropped, the commit one place earlier, the descriptor's end
//! one instruction off, another signature, a release store made plain. Each is applied to every copy of the section.

mod code;
mod same;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use object::read::elf::ElfSection64;
use object::{LittleEndian, Object as _, ObjectSection as _};

use self::code::{nop, relaxed, retarget};
use self::same::same;
use super::file::{Elf, parse};
use super::listing::{Listing, entry};
use super::operations::{NUMBERS, Operation};
use super::sections::entries;
use crate::arch::Arch;

/// The name of the unchanged section.
pub const NONE: &str = "nothing changed";

/// Bytes to write at one place.
#[derive(Clone, Debug)]
pub struct Patch {
    pub at: u64,
    pub bytes: Vec<u8>,
}

#[derive(Debug)]
pub struct Mutant {
    /// Joined names of all operations with the same instructions.
    pub section: String,
    /// The section and the change.
    pub name: String,
    pub patches: Vec<Patch>,
}

impl Mutant {
    /// Whether the section is unchanged.
    pub fn is_none(&self) -> bool {
        self.patches.is_empty()
    }
}

/// One copy of a section in a program.
struct Copy {
    descriptor: u64,
    start: u64,
    end: u64,
    abort: u64,
    /// The addresses of each line's instructions: first the store of the descriptor, then the section.
    lines: Vec<Vec<u64>>,
    /// The number of lines of the store.
    entry: usize,
    handler: Vec<u64>,
}

/// The file with the mutant applied.
pub fn patched(file: &Path, mutant: &Mutant) -> Result<Vec<u8>> {
    let mut bytes = std::fs::read(file)?;
    for Patch { at, bytes: new } in &mutant.patches {
        let elf = parse(&bytes)?;
        let section = section_at(&elf, *at)?;
        let (from, _) = section.file_range().context("a section without bytes")?;
        let from = (from + at - section.address()) as usize;
        let place = bytes.get_mut(from..from + new.len());
        place
            .context("a file that is cut off")?
            .copy_from_slice(new);
    }
    Ok(bytes)
}

fn section_at<'data, 'file>(
    elf: &'file Elf<'data>,
    at: u64,
) -> Result<ElfSection64<'data, 'file, LittleEndian>> {
    let is_there = |section: &ElfSection64<'_, '_, _>| {
        (section.address()..section.address() + section.size()).contains(&at)
    };
    let section = elf.sections().find(is_there);
    section.with_context(|| format!("nothing is at {at:#x}"))
}

/// The mutants of the sections in `file` that have the code of one of `operations`, each of which must be present.
pub fn of(arch: Arch, file: &Path, operations: &[Operation]) -> Result<Vec<Mutant>> {
    let mut names: BTreeMap<Vec<String>, String> = BTreeMap::new();
    for operation in operations
        .iter()
        .filter(|one| !NUMBERS.contains(&&*one.name))
    {
        let text = independent(&operation.section);
        let name = names.entry(text).or_default();
        let separator = if name.is_empty() { "" } else { "=" };
        *name = format!("{name}{separator}{}", operation.name);
    }
    let bytes = std::fs::read(file)?;
    let program = Program {
        arch,
        listing: Listing::of(arch, file)?,
        elf: parse(&bytes)?,
    };
    let mut sections: BTreeMap<&str, (&[String], Vec<Copy>)> = BTreeMap::new();
    for mut copy in program.copies()? {
        let text = independent(&program.listing.section(copy.start, copy.end));
        // Its own text first: with registers that are shared it may also be that of another.
        let own = names.get_key_value(&text);
        let known = own.into_iter().chain(&names).find_map(|(golden, name)| {
            let groups = same(golden, &text, copy.entry)?;
            Some((golden, name, groups))
        });
        if let Some((golden, name, groups)) = known {
            let places = |group: &Vec<usize>| group.iter().map(|&nth| copy.lines[nth][0]).collect();
            copy.lines = groups.iter().map(places).collect();
            let section = sections.entry(name).or_insert((golden, Vec::new()));
            section.1.push(copy);
        }
    }
    for name in names.values() {
        ensure!(sections.contains_key(&**name), "no copy of {name}");
    }
    let mut mutants = Vec::new();
    for (&name, (text, copies)) in &sections {
        let mutant = |change: &str, patches| Mutant {
            section: name.to_owned(),
            name: format!("{name}: {change}"),
            patches,
        };
        mutants.push(mutant(NONE, Vec::new()));
        let mut changes: BTreeMap<(usize, String), Vec<Patch>> = BTreeMap::new();
        for copy in copies {
            for (order, (change, patches)) in program.changes(copy, text)?.into_iter().enumerate() {
                changes.entry((order, change)).or_default().extend(patches);
            }
        }
        mutants.extend(
            changes
                .into_iter()
                .map(|((_, change), patches)| mutant(&change, patches)),
        );
    }
    Ok(mutants)
}

/// Without what differs from copy to copy: the sizes of slots, and on x86_64 the offset of 0 that is written where the
/// base is `rbp` or `r13`.
fn independent(section: &[String]) -> Vec<String> {
    let shifts = ["lsl #", "lsl r0, r0, #", "shl r0,", "sll r0,r0,"];
    let line = |line: &String| {
        let end = |shift: &&str| line.find(*shift).map(|at| at + shift.len());
        let end = shifts.iter().find_map(end).unwrap_or(line.len());
        line[..end].replace("+0x0]", "]")
    };
    section.iter().map(line).collect()
}

struct Program<'data> {
    arch: Arch,
    listing: Listing,
    elf: Elf<'data>,
}

impl Program<'_> {
    fn bytes(&self, at: u64, length: usize) -> Result<&[u8]> {
        let section = section_at(&self.elf, at)?;
        let from = (at - section.address()) as usize;
        let bytes = section.data()?.get(from..from + length);
        bytes.with_context(|| format!("no {length} bytes are at {at:#x}"))
    }

    /// The length of the instruction at `at`.
    fn length(&self, at: u64) -> Result<u64> {
        let next = self.listing.from(at + 1).next();
        Ok(next.with_context(|| format!("nothing is behind {at:#x}"))? - at)
    }

    fn instruction(&self, at: u64) -> Result<&[u8]> {
        self.bytes(at, self.length(at)? as usize)
    }

    fn copies(&self) -> Result<Vec<Copy>> {
        let (at, descriptors) = entries(&self.elf, "__rseq_cs", 32, 32)?;
        let copy = |(nth, descriptor): (usize, &Vec<u64>)| {
            let [_, start, length, abort] = descriptor[..] else {
                bail!("a descriptor of another size");
            };
            self.copy(at + 32 * nth as u64, start, start + length, abort)
        };
        descriptors.iter().enumerate().map(copy).collect()
    }

    fn copy(&self, descriptor: u64, start: u64, end: u64, abort: u64) -> Result<Copy> {
        let entry = entry(self.arch);
        let (bound, jumps) = match self.arch {
            Arch::X86_64 => (2, 1),
            Arch::Aarch64 => (2, 2),
            Arch::Riscv64 => (1, 2),
        };
        let mut lines = self.listing.before(start, entry);
        let inside: Vec<u64> = self
            .listing
            .from(start)
            .take_while(|&at| at < end)
            .collect();
        // A section with a result exits by the lines behind the handler where there is no slot.
        let mut behind = abort;
        for _ in 0..jumps {
            behind = self.listing.behind_jump(behind);
        }
        // A branch that leads too far is one over a jump.
        let mut exits = inside.iter().skip(bound).take(2);
        if exits.any(|&at| self.listing.target(at) == Some(behind)) {
            behind = self.listing.behind_jump(behind);
        }
        lines.extend(inside);
        Ok(Copy {
            descriptor,
            start,
            end,
            abort,
            lines: lines.into_iter().map(|at| vec![at]).collect(),
            entry,
            handler: self
                .listing
                .from(abort)
                .take_while(|&at| at < behind)
                .collect(),
        })
    }

    /// The instructions at these places, without an effect.
    fn without(&self, places: &[u64]) -> Result<Vec<Patch>> {
        let patch = |&at: &u64| {
            let bytes = nop(self.arch, self.instruction(at)?.len());
            Ok(Patch { at, bytes })
        };
        places.iter().map(patch).collect()
    }

    /// All changes of one copy; those of another copy have the same names in the same order.
    fn changes(&self, copy: &Copy, text: &[String]) -> Result<Vec<(String, Vec<Patch>)>> {
        let mut changes = Vec::new();
        for (nth, (places, line)) in copy.lines.iter().zip(text).enumerate() {
            changes.push((format!("{nth} without `{line}`"), self.without(places)?));
            if let [at] = places[..]
                && let Some(bytes) = relaxed(self.arch, self.instruction(at)?)
            {
                changes.push((format!("{nth} relaxed `{line}`"), vec![Patch { at, bytes }]));
            }
        }
        for (nth, &at) in copy.handler.iter().enumerate() {
            let line = text.len() + nth;
            changes.push((
                format!("{line} without handler {nth}"),
                self.without(&[at])?,
            ));
        }
        changes.push((
            "the commit one place up".to_owned(),
            self.early_commit(copy)?,
        ));
        let last = copy.lines.last().and_then(|last| last.first());
        let last = copy.end - last.context("a section of no instruction")?;
        let length = copy.end - copy.start;
        for (change, length) in [
            ("the end before the commit", length - last),
            (
                "the end one instruction late",
                length + self.length(copy.end)?,
            ),
        ] {
            let bytes = length.to_le_bytes().to_vec();
            let at = copy.descriptor + 16;
            changes.push((change.to_owned(), vec![Patch { at, bytes }]));
        }
        let at = copy.abort - 4;
        let bytes = self.bytes(at, 4)?.iter().map(|byte| byte ^ 1).collect();
        changes.push(("another signature".to_owned(), vec![Patch { at, bytes }]));
        Ok(changes)
    }

    /// Swaps the commit and the line before it. Branches follow the instruction that they lead to.
    fn early_commit(&self, copy: &Copy) -> Result<Vec<Patch>> {
        let [inside @ .., before, commit] = &copy.lines[copy.entry..] else {
            bail!("a section of one instruction");
        };
        let (&[commit], &[first, ..]) = (&commit[..], &before[..]) else {
            bail!("a commit of several instructions");
        };
        let code = self.instruction(commit)?;
        let shift = code.len() as u64;
        let follow = |target: u64| match target {
            _ if target == commit => first,
            _ if before.contains(&target) => target + shift,
            _ => target,
        };
        let mut patches = Vec::new();
        for &at in inside.iter().flatten() {
            if let Some(target) = self.listing.target(at)
                && follow(target) != target
            {
                let bytes = retarget(self.arch, self.instruction(at)?, at, follow(target))?;
                patches.push(Patch { at, bytes });
            }
        }
        let mut bytes = code.to_vec();
        for &at in before {
            let code = self.instruction(at)?;
            bytes.extend(match self.listing.target(at) {
                // Over the jump behind it, which moves with it.
                Some(target) if target == commit && before.len() > 1 => code.to_vec(),
                Some(target) => retarget(self.arch, code, at + shift, follow(target))?,
                None => code.to_vec(),
            });
        }
        patches.push(Patch { at: first, bytes });
        Ok(patches)
    }
}
