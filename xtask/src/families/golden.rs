//! The code of each per-CPU operation, pinned in a file for each CPU, and its length against the C library's.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};

use crate::arch::Arch;
use crate::case::{Case, Family};
use crate::cell::At;
use crate::compiler;
use crate::context::Context;
use crate::elf::listing::entry;
use crate::elf::operations::{NUMBERS, Operation, all, read};
use crate::guests::guest;
use crate::install::Need;
use crate::outcome::Failure;
use crate::percpu_header;
use crate::process::{command, run};

pub const FAMILY: Family = Family {
    name: "golden",
    cases,
    needs,
};

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
    // Of 16 bytes; the straight way through ours is a move of each size and a turn of 32 bytes, on riscv64 a single byte.
    ("compare_copy_and_store_relaxed", [123, 87, 118]),
];

/// The rows of the table in the crate's documentation, but for the copy.
const TABLE: [(&str, &str); 7] = [
    ("add", "add_relaxed"),
    ("add through a pointer", "add_through_relaxed"),
    ("compare and store", "compare_and_store_relaxed"),
    ("compare two and store", "compare_two_and_store_relaxed"),
    (
        "compare, store and store",
        "compare_store_and_store_relaxed",
    ),
    ("compare, link and store", "compare_link_and_store_relaxed"),
    ("pop", "pop_relaxed"),
];

/// The copy's row, its operation, and the lines of its section to which 16 bytes at multiples of eight jump, by CPU.
const COPY: (&str, &str, [&[usize]; 3]) = (
    "compare, copy 16 bytes and store",
    "compare_copy_and_store_relaxed",
    [
        &[15, 20, 25, 30, 49],
        &[15, 18, 21, 24, 35],
        &[19, 27, 33, 39, 45, 65],
    ],
);

fn cases(_: &Context, at: At) -> Result<Vec<Case>> {
    let arch = match at {
        At::Host => return Ok(vec![Case::new("header", header)]),
        At::Link(arch) => arch,
        _ => return Ok(vec![]),
    };
    let operations = move |cx: &Context| read(arch, &guest(cx, arch, "golden")?);
    Ok(vec![
        Case::new("sections", move |cx| pinned(cx, arch, &operations(cx)?)),
        Case::new("instructions", move |cx| counted(arch, &operations(cx)?)),
        Case::new("releases", move |cx| {
            ordered(arch, &all(arch, &guest(cx, arch, "golden")?)?)
        }),
    ])
}

fn needs(cx: &Context, at: At) -> Vec<Need> {
    let At::Link(arch) = at else {
        return vec![];
    };
    let mut needs = compiler::needs(cx, arch);
    let package = format!("binutils-{}-linux-gnu", arch.name().replace('_', "-"));
    let why = format!("disassembling for {arch}");
    needs.push(Need::new(arch.tool("objdump"), &[package], why));
    needs
}

/// A file of the repository is to have this text; under `--bless` it is made so.
pub fn compare(cx: &Context, path: &str, text: &str, only: &str) -> Result<()> {
    let file = cx.root.join(path);
    if cx.bless {
        std::fs::write(&file, text)?;
    }
    let hint = format!("cargo xtask test --only {only} --bless");
    let expected = std::fs::read_to_string(&file).with_context(|| format!("no {path}: {hint}"))?;
    if expected == text {
        return Ok(());
    }
    let new = tempfile::NamedTempFile::new()?;
    std::fs::write(&new, text)?;
    let mut diff = command("diff");
    let changes = run(diff.arg("-U0").arg(&file).arg(new.path()), 60)?.output;
    // Behind the names of the two files and the place.
    let first = changes.lines().nth(3).unwrap_or_default();
    Err(Failure::error(format!("{path}: {first}; {hint}"), changes))
}

/// The C operations are what the generator makes of the sections.
fn header(cx: &Context) -> Result<()> {
    let text = percpu_header::text(&cx.root)?;
    compare(cx, percpu_header::PATH, &text, "golden::header")
}

fn pinned(cx: &Context, arch: Arch, operations: &[Operation]) -> Result<String> {
    let mut text = String::new();
    for operation in operations {
        let _ = writeln!(text, "{}: {}", operation.name, operation.section.len());
        for line in &operation.section {
            let _ = writeln!(text, "    {line}");
        }
    }
    let path = format!("tests-qemu/golden/{arch}.txt");
    compare(cx, &path, &text, "golden::")?;
    Ok(format!("{} sections", operations.len()))
}

/// The sections that say release are, those of `examples/sections` too, which no file pins.
fn ordered(arch: Arch, operations: &[Operation]) -> Result<String> {
    let sections = operations
        .iter()
        .filter(|operation| !NUMBERS.contains(&&*operation.name));
    let (releases, others): (Vec<_>, Vec<_>) =
        sections.partition(|operation| operation.name.ends_with("_release"));
    let (count, others) = (releases.len(), others.len());
    ensure!(
        count == others,
        "{count} that release, {others} that do not"
    );
    for operation in releases {
        let name = &operation.name;
        ensure!(operation.is_ordered(arch), "the commit of {name} is none");
    }
    Ok(format!("{count} sections"))
}

/// The number in that row of the table in the crate's documentation.
fn documented(row: &str, arch: Arch) -> Option<usize> {
    let page = include_str!("../../../src/percpu/mod.rs");
    let start = format!("//! | {row} | ");
    let cells = page.lines().find_map(|line| line.strip_prefix(&start))?;
    let cell = cells.split('|').nth(arch as usize)?;
    cell.split_whitespace().next()?.parse().ok()
}

/// The instructions of a section on the way that takes the conditional jumps to these lines, and no others.
fn way(section: &[String], arch: Arch, taken: &[usize]) -> usize {
    // The lines that store the descriptor's address have no number.
    let before = entry(arch);
    let (mut at, mut count) = (0, 0);
    while let Some(line) = section.get(at) {
        let target = line.rsplit_once('@').and_then(|(_, to)| to.parse().ok());
        let jumps = |to: &usize| line.starts_with("j ") || taken.contains(to);
        at = target.filter(jumps).map_or(at + 1, |to: usize| to + before);
        count += 1;
    }
    count
}

/// No operation takes more instructions than the C library's or others than the documentation says, and a number takes one.
fn counted(arch: Arch, operations: &[Operation]) -> Result<String> {
    let find = |name: &str| {
        let found = operations.iter().find(|operation| operation.name == name);
        found.with_context(|| format!("no {name}"))
    };
    let (mut counts, mut longer) = (Vec::new(), Vec::new());
    for name in NUMBERS {
        let length = find(name)?.section.len();
        ensure!(length == 1, "{name} is {length} instructions, not one");
        counts.push(format!("{name} 1"));
    }
    for (name, theirs) in THEIRS {
        let (ours, theirs) = (find(name)?.straight, theirs[arch as usize]);
        let line = format!("{name} {ours}/{theirs}");
        if theirs != 0 && ours > theirs {
            longer.push(line);
        } else {
            counts.push(line);
        }
    }
    let (row, name, jumps) = COPY;
    let copy = find(name)?;
    let by_way = |taken| way(&copy.section, arch, taken);
    let copies = copy.straight - by_way(&[]) + by_way(jumps[arch as usize]);
    let mut rows = vec![(row, copies)];
    for (row, name) in TABLE {
        rows.push((row, find(name)?.straight));
    }
    for (row, ours) in rows {
        let said = documented(row, arch);
        ensure!(
            said == Some(ours),
            "{row}: {ours} instructions, and {said:?} in src/percpu/mod.rs"
        );
    }
    let longer = longer.join(", ");
    ensure!(longer.is_empty(), "longer than librseq's: {longer}");
    Ok(counts.join(", "))
}
