//! The code of each per-CPU operation, pinned in a file for each CPU, and its length against the C library's.

use std::fmt::Write as _;
use std::path::PathBuf;

use object::read::elf::ElfFile64;
use object::{LittleEndian, Object as _, ObjectSection as _, ObjectSymbol as _};

use super::link::cell;
use super::{Family, Job, Selection};
use crate::arch::Arch;
use crate::guests::Guest;
use crate::install::Need;
use crate::lab::Lab;
use crate::listing::{Listing, objdump};
use crate::outcome::{Cell, Outcome, Verdict};

/// The family.
pub struct Golden;

const NAME: &str = "golden";

const TESTS: [&str; 2] = ["sections", "instructions"];

/// Instructions from the call to the return of the C library's operation of the same name, by CPU: x86_64, aarch64,
/// riscv64; 0 where it has none. librseq cbdabc45, gcc 12.2 -O2; how they were counted is in `rseq_rt::percpu`.
const THEIRS: [(&str, [usize; 3]); 11] = [
    ("add_relaxed", [14, 19, 17]),
    ("add_mm_cid", [14, 19, 17]),
    ("add_through_relaxed", [21, 0, 0]),
    ("compare_and_store_relaxed", [17, 20, 17]),
    ("compare_two_and_store_relaxed", [20, 23, 19]),
    ("compare_store_and_store_relaxed", [19, 21, 18]),
    ("compare_store_and_store_release", [19, 21, 19]),
    ("compare_link_and_store_relaxed", [20, 21, 18]),
    ("compare_link_and_store_release", [20, 21, 19]),
    ("pop_relaxed", [23, 26, 24]),
    // Of 16 bytes; the straight way through ours has one byte and one word in place of two words.
    ("compare_copy_and_store_relaxed", [123, 87, 118]),
];

impl Family for Golden {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self, lab: &Lab, selection: &Selection) -> Vec<Need> {
        let listed = self.list(lab, selection);
        let wanted = |arch: &Arch| listed.iter().any(|(at, _)| *at == cell(*arch));
        let mut needs = Vec::new();
        for arch in Arch::ALL.into_iter().filter(wanted) {
            needs.extend(crate::compiler::needs(arch, lab.install, &lab.progress));
            let package = format!("binutils-{}-linux-gnu", arch.name().replace('_', "-"));
            let why = format!("disassembling for {arch}");
            needs.push(Need::new(objdump(arch), &[package], why));
        }
        needs
    }

    fn list(&self, _: &Lab, selection: &Selection) -> Vec<(Cell, String)> {
        let arches = Arch::ALL
            .into_iter()
            .filter(|&arch| selection.wants_arch(arch) && selection.wants_kernel_free());
        arches
            .flat_map(|arch| TESTS.map(|test| (cell(arch), test.to_owned())))
            .filter(|(_, test)| selection.wants(NAME, test))
            .collect()
    }

    fn jobs<'lab>(&self, lab: &'lab Lab, selection: &Selection) -> Vec<Job<'lab>> {
        let listed = self.list(lab, selection);
        let bless = selection.bless;
        let mut jobs = Vec::new();
        for arch in Arch::ALL {
            let tests: Vec<String> = listed
                .iter()
                .filter(|(at, _)| *at == cell(arch))
                .map(|(_, test)| test.clone())
                .collect();
            if !tests.is_empty() {
                jobs.push(Job::alone(format!("golden files for {arch}"), move || {
                    run(lab, arch, &tests, bless)
                }));
            }
        }
        jobs
    }
}

/// Bytes of text of each operation by `cpu_id` with a relaxed commit: a function of it, and its abort handler.
pub fn operation_sizes(lab: &Lab, arch: Arch) -> Result<Vec<(String, u64)>, Verdict> {
    let operations = operations(lab, arch)?;
    let sizes = operations.iter().filter_map(|operation| {
        let name = operation.name.strip_suffix("_relaxed")?;
        Some((name.to_owned(), operation.bytes))
    });
    Ok(sizes.collect())
}

fn operations(lab: &Lab, arch: Arch) -> Result<Vec<Operation>, Verdict> {
    match lab.guest(arch, Guest::Golden) {
        Err(why) => Err(why.verdict(true)),
        Ok(_) if which::which(objdump(arch)).is_err() => {
            Err(Verdict::Missing(format!("no {} here", objdump(arch))))
        }
        Ok(file) => read(arch, &file).map_err(Verdict::Failed),
    }
}

fn run(lab: &Lab, arch: Arch, tests: &[String], bless: bool) -> Vec<Outcome> {
    let operations = operations(lab, arch);
    let judge = |test: &String| {
        let verdict = match &operations {
            Err(verdict) => verdict.clone(),
            Ok(operations) if test == "sections" => pinned(lab, arch, operations, bless),
            Ok(operations) => counted(arch, operations),
        };
        Outcome::new(&cell(arch), NAME, test.clone(), verdict)
    };
    tests.iter().map(judge).collect()
}

/// The functions that are the load of a number and nothing else.
const NUMBERS: [&str; 2] = ["number_cpu_id", "number_mm_cid"];

/// One operation in the file.
struct Operation {
    name: String,
    section: Vec<String>,
    straight: usize,
    /// Of the function and of the abort handler.
    bytes: u64,
}

/// Every symbol with a critical section, by the descriptors: their form is checked on the way.
fn read(arch: Arch, file: &PathBuf) -> Result<Vec<Operation>, String> {
    let listing = Listing::of(arch, file)?;
    let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
    let elf = ElfFile64::<LittleEndian>::parse(&*bytes).map_err(|error| error.to_string())?;
    let data = |name: &str| {
        let section = elf.section_by_name(name)?;
        Some((section.address(), section.data().ok()?.to_vec()))
    };
    let (_, descriptors) = data("__rseq_cs").ok_or("no __rseq_cs")?;
    let (text, code) = data(".text").ok_or("no .text")?;
    let word = |descriptor: &[u8], at: usize| {
        let bytes = descriptor
            .get(at..at + 8)
            .and_then(|word| word.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    };
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
    for descriptor in descriptors.chunks(32) {
        let word = |at: usize| word(descriptor, at);
        let (start, length, abort) = (word(8), word(16), word(24));
        let before = abort.wrapping_sub(text).wrapping_sub(4) as usize;
        let signature = code
            .get(before..before + 4)
            .and_then(|word| word.try_into().ok());
        if word(0) != 0 || signature.map(u32::from_le_bytes) != Some(SIGNATURES[arch as usize]) {
            return Err(format!(
                "the descriptor of {start:#x} has no signature before {abort:#x}"
            ));
        }
        if (start..start + length).contains(&abort) {
            return Err(format!("the abort handler of {start:#x} is inside"));
        }
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
                // The handler lies behind the function, and is no part of its symbol.
                bytes: symbol.size() + listing.behind_jump(abort) - (abort - 4),
            });
        }
    }
    operations.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(operations)
}

const SIGNATURES: [u32; 3] = [0x5305_3053, 0xd428_bc00, 0xf140_1073];

fn pinned(lab: &Lab, arch: Arch, operations: &[Operation], bless: bool) -> Verdict {
    let file = lab.root.join(format!("tests-qemu/golden/{arch}.txt"));
    let mut text = String::new();
    for operation in operations {
        let _ = writeln!(text, "{}: {}", operation.name, operation.section.len());
        for line in &operation.section {
            let _ = writeln!(text, "    {line}");
        }
    }
    if bless {
        let written = std::fs::create_dir_all(file.with_file_name(""))
            .and_then(|()| std::fs::write(&file, text));
        return match written {
            Ok(()) => Verdict::Passed(format!("{} sections, written anew", operations.len())),
            Err(error) => Verdict::Failed(error.to_string()),
        };
    }
    let Ok(expected) = std::fs::read_to_string(&file) else {
        return Verdict::Failed(format!(
            "no {}: cargo xtask test --only golden --bless",
            file.display()
        ));
    };
    let mut lines = expected.lines().zip(text.lines()).enumerate();
    match lines.find(|(_, (one, other))| one != other) {
        Some((nth, (one, other))) => Verdict::Failed(format!(
            "line {}: expected `{}`, is `{}`",
            nth + 1,
            one.trim(),
            other.trim()
        )),
        None if expected != text => Verdict::Failed("there are more sections, or fewer".to_owned()),
        None => Verdict::Passed(format!("{} sections", operations.len())),
    }
}

/// No operation takes more instructions than the C library's, and a number takes one.
fn counted(arch: Arch, operations: &[Operation]) -> Verdict {
    let (mut told, mut longer) = (Vec::new(), Vec::new());
    for name in NUMBERS {
        let is = operations.iter().find(|operation| operation.name == name);
        match is.map(|operation| operation.section.len()) {
            Some(1) => told.push(format!("{name} 1")),
            other => return Verdict::Failed(format!("{name} is {other:?} instructions, not one")),
        }
    }
    for (name, theirs) in THEIRS {
        let theirs = theirs[arch as usize];
        let Some(ours) = operations.iter().find(|operation| operation.name == name) else {
            return Verdict::Failed(format!("no {name}"));
        };
        let line = format!("{name} {}/{theirs}", ours.straight);
        if theirs != 0 && ours.straight > theirs {
            longer.push(line);
        } else {
            told.push(line);
        }
    }
    if longer.is_empty() {
        Verdict::Passed(told.join(", "))
    } else {
        Verdict::Failed(format!(
            "longer than the C library's: {}",
            longer.join(", ")
        ))
    }
}
