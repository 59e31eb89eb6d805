//! Proofs about the release link of the minimal init, read from the file.

use std::path::Path;

use object::elf::{PF_W, PF_X, PT_GNU_STACK};
use object::read::elf::{ElfFile64, ProgramHeader as _};
use object::{LittleEndian, Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};

use super::{Family, Job, Selection};
use crate::arch::Arch;
use crate::guests::Guest;
use crate::install::Need;
use crate::lab::Lab;
use crate::outcome::{Cell, Outcome, Trouble, Verdict};

/// The family.
pub struct Link;

const NAME: &str = "link";

/// A proof: its name, and what it finds in the file.
type Proof = (
    &'static str,
    Guest,
    fn(&ElfFile64<'_, LittleEndian>) -> Verdict,
);

/// The proofs. Another one is another line.
const PROOFS: [Proof; 5] = [
    ("no_panic_unwind_alloc", Guest::Init, no_panic_unwind_alloc),
    ("stack_not_executable", Guest::Init, stack_not_executable),
    ("no_writable_code", Guest::Init, no_writable_code),
    ("rseq_cs_is_loaded", Guest::Golden, rseq_cs_is_loaded),
    ("code_size", Guest::Sizes, code_size),
];

impl Family for Link {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self, lab: &Lab, selection: &Selection) -> Vec<Need> {
        let cells = self.list(lab, selection);
        let wanted = |arch: &Arch| cells.iter().any(|(cell, _)| *cell == self::cell(*arch));
        Arch::ALL
            .into_iter()
            .filter(wanted)
            .flat_map(|arch| crate::compiler::needs(arch, lab.install, &lab.progress))
            .collect()
    }

    fn list(&self, _: &Lab, selection: &Selection) -> Vec<(Cell, String)> {
        let mut listed = Vec::new();
        for arch in Arch::ALL
            .into_iter()
            .filter(|&arch| selection.wants_arch(arch) && selection.wants_kernel_free())
        {
            let wanted = PROOFS
                .into_iter()
                .filter(|(proof, ..)| selection.wants(NAME, proof));
            listed.extend(wanted.map(|(proof, ..)| (cell(arch), proof.to_owned())));
        }
        listed
    }

    fn jobs<'lab>(&self, lab: &'lab Lab, selection: &Selection) -> Vec<Job<'lab>> {
        let listed = self.list(lab, selection);
        let mut jobs = Vec::new();
        for arch in Arch::ALL {
            let tests: Vec<String> = listed
                .iter()
                .filter(|(at, _)| *at == cell(arch))
                .map(|(_, test)| test.clone())
                .collect();
            if !tests.is_empty() {
                let title = format!("link proofs for {arch}");
                jobs.push(Job::alone(title, move || run(lab, arch, &tests)));
            }
        }
        jobs
    }
}

/// The column of what is read from linked files.
pub(super) fn cell(arch: Arch) -> Cell {
    Cell {
        order: 5 + arch as usize,
        label: format!("{arch}/link"),
    }
}

fn run(lab: &Lab, arch: Arch, tests: &[String]) -> Vec<Outcome> {
    PROOFS
        .into_iter()
        .filter(|(proof, ..)| tests.iter().any(|test| test == proof))
        .map(|(proof, guest, judge)| {
            let verdict = match lab.guest(arch, guest).and_then(|file| read(&file)) {
                Err(why) => why.verdict(true),
                Ok(bytes) => match ElfFile64::parse(&*bytes) {
                    Err(error) => Verdict::Failed(format!("no ELF file: {error}")),
                    Ok(elf) => judge(&elf),
                },
            };
            Outcome::new(&cell(arch), NAME, proof, verdict)
        })
        .collect()
}

/// The text of the hooks for `arch`, as the report of that name says it.
pub fn code_sizes(lab: &Lab, arch: Arch) -> Verdict {
    let one = run(lab, arch, &["code_size".to_owned()]).pop();
    one.map_or_else(
        || Verdict::Skipped("no such report".to_owned()),
        |one| one.verdict,
    )
}

fn read(file: &Path) -> Result<Vec<u8>, Trouble> {
    std::fs::read(file).map_err(|error| Trouble::Broken(format!("{}: {error}", file.display())))
}

fn no_panic_unwind_alloc(elf: &ElfFile64<'_, LittleEndian>) -> Verdict {
    let mut symbols = 0;
    let mut bad = Vec::new();
    for name in elf
        .symbols()
        .filter_map(|symbol| symbol.name().ok())
        .filter(|name| !name.is_empty())
    {
        symbols += 1;
        if crate::archive::UNWANTED
            .iter()
            .any(|part| name.contains(part))
        {
            bad.push(format!("{:#}", rustc_demangle::demangle(name)));
        }
    }
    match (symbols, bad.is_empty()) {
        (0, _) => Verdict::Failed("the file has no symbols, so this proves nothing".to_owned()),
        (_, true) => Verdict::Passed(format!("{symbols} symbols")),
        (_, false) => Verdict::Failed(bad.join(", ")),
    }
}

fn stack_not_executable(elf: &ElfFile64<'_, LittleEndian>) -> Verdict {
    let endian = elf.endian();
    match elf
        .elf_program_headers()
        .iter()
        .find(|segment| segment.p_type(endian) == PT_GNU_STACK)
    {
        None => Verdict::Failed(
            "no GNU_STACK header: the kernel may make the stack executable".to_owned(),
        ),
        Some(stack) if stack.p_flags(endian).0 & PF_X.0 != 0 => {
            Verdict::Failed("GNU_STACK is executable".to_owned())
        }
        Some(_) => Verdict::Passed(String::new()),
    }
}

fn no_writable_code(elf: &ElfFile64<'_, LittleEndian>) -> Verdict {
    let endian = elf.endian();
    let both = PF_W.0 | PF_X.0;
    let bad = elf
        .elf_program_headers()
        .iter()
        .filter(|segment| segment.p_flags(endian).0 & both == both);
    let bad: Vec<String> = bad
        .map(|segment| format!("{:#x}", segment.p_vaddr(endian)))
        .collect();
    if bad.is_empty() {
        Verdict::Passed(String::new())
    } else {
        Verdict::Failed(format!("writable and executable: {}", bad.join(", ")))
    }
}

/// Debuggers look for `__rseq_cs` in a loaded segment.
fn rseq_cs_is_loaded(elf: &ElfFile64<'_, LittleEndian>) -> Verdict {
    let Some(section) = elf.section_by_name("__rseq_cs") else {
        return Verdict::Failed("no __rseq_cs, though there are critical sections".to_owned());
    };
    if section.size() == 0 || section.size() % 32 != 0 || section.address() % 32 != 0 {
        return Verdict::Failed(format!("__rseq_cs has {} bytes", section.size()));
    }
    let endian = elf.endian();
    let holds = |start: u64, size: u64| {
        section.address() >= start && section.address() + section.size() <= start + size
    };
    let loaded = elf.elf_program_headers().iter().any(|segment| {
        segment.p_type(endian) == object::elf::PT_LOAD
            && holds(segment.p_vaddr(endian), segment.p_filesz(endian))
    });
    if loaded {
        Verdict::Passed(format!("{} bytes", section.size()))
    } else {
        Verdict::Failed("__rseq_cs is in no loaded segment".to_owned())
    }
}

/// A report rather than a proof: the text of each hook, and of what they share.
fn code_size(elf: &ElfFile64<'_, LittleEndian>) -> Verdict {
    let (mut hooks, mut shared, mut total) = (Vec::new(), 0, 0);
    for symbol in elf
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text)
    {
        let name = symbol.name().unwrap_or_default();
        let name = format!("{:#}", rustc_demangle::demangle(name));
        if let Some((_, hook)) = name.split_once("size_of_") {
            hooks.push(format!("{hook} {}", symbol.size()));
        } else if name.contains("rseq_rt::") {
            shared += symbol.size();
        } else {
            continue;
        }
        total += symbol.size();
    }
    if hooks.len() != 4 {
        return Verdict::Failed(format!("the hooks are not symbols of their own: {hooks:?}"));
    }
    hooks.sort();
    let hooks = hooks.join(", ");
    Verdict::Passed(format!(
        "{hooks}, shared {shared}; together {total} bytes of text"
    ))
}
