//! Tests of the tests: each mutant of a critical section in the suite's program has to be noticed by one of its tests, or by
//! its instructions. Those that run as the section does are in a table, with the reason. A whole run looks at each fourth;
//! `--only mutants::` at all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use crate::arch::Arch;
use crate::case::{Case, Family};
use crate::cell::{At, keep_console};
use crate::console;
use crate::context::Context;
use crate::elf::mutants::{Mutant, of, patched};
use crate::elf::operations::{Operation, all};
use crate::families::golden;
use crate::guests::{guest, guest_needs};
use crate::install::Need;
use crate::machine::boot::{self, load};
use crate::machine::place::{Machine, Place};
use crate::outcome::{Failure, Outcome};

pub const FAMILY: Family = Family {
    name: "mutants",
    cases,
    needs,
};

/// Mutants of one boot: an emulated machine judges one in some seconds, and a boot has a limit.
const AT_ONCE: usize = 150;

/// The judges of what runs the same: of the crate's sections, and of those of `examples/sections`.
const GOLDEN: &str = "golden::sections";
const RELEASES: &str = "golden::releases";

/// Sections, and the tests that judge them; each runs the sections as shipped.
struct Group {
    /// In the order of the guest's `Program`.
    sections: &'static [&'static str],
    /// In the order of the suite.
    tests: &'static [&'static str],
}

const GROUPS: [Group; 3] = [
    Group {
        sections: &[
            "add",
            "add_through",
            "compare_and_store",
            "compare_two_and_store",
            "compare_store_and_store",
            "compare_link_and_store",
            "pop",
            "compare_copy_and_store",
        ],
        tests: &[
            "percpu/no-slot-for-this-cpu",
            "percpu/empty-and-different",
            "percpu/copies",
            "percpu/each-id-has-its-slot",
            "percpu/single-stepped",
            "percpu/moved-at-each-instruction",
            "percpu/signalled-at-each-instruction",
        ],
    },
    Group {
        sections: &["own_push", "own_pop"],
        tests: &[
            "percpu/own-each-id-has-its-slot-slab",
            "percpu/own-edges-slab",
            "percpu/own-single-stepped-slab",
            "percpu/own-moved-slab",
            "percpu/own-signalled-slab",
        ],
    },
    Group {
        sections: &["own_append", "own_take"],
        tests: &[
            "percpu/own-each-id-has-its-slot-events",
            "percpu/own-edges-events",
            "percpu/own-single-stepped-events",
            "percpu/own-moved-events",
            "percpu/own-signalled-events",
        ],
    },
];

/// The index of a section (0: `cpu_id`, 1: `mm_cid`), and its name within its group.
fn parts(section: &str) -> (usize, &str) {
    let name = section.split('=').next().unwrap_or_default();
    let without = |name: &'_ str, end: &str| name.strip_suffix(end).unwrap_or(name).len();
    let name = &name[..without(name, "_release")];
    let name = &name[..without(name, "_relaxed")];
    match name.strip_suffix("_mm_cid") {
        Some(name) => (1, name),
        None => (0, name),
    }
}

/// A mutant that runs as the section does, by parts of its name, and why. Each stands here, or the test fails.
struct Survivor {
    arch: Arch,
    parts: &'static [&'static str],
    why: &'static str,
}

/// An emulated store is one of the machine under it, which on x86_64 keeps stores in order.
const ORDER: &str = "a commit without its release is seen on a CPU alone that orders stores more weakly than x86_64";

const WHOLE_TURNS: &str =
    "a length of whole turns has no bit set that is then looked at, and comes to the same place";

const SURVIVORS: [Survivor; 7] = [
    Survivor {
        arch: Arch::X86_64,
        parts: &["compare_copy_and_store", "11 without `je @37`"],
        why: WHOLE_TURNS,
    },
    Survivor {
        arch: Arch::Aarch64,
        parts: &["compare_copy_and_store", "14 without `b.eq @27`"],
        why: WHOLE_TURNS,
    },
    Survivor {
        arch: Arch::Riscv64,
        parts: &["compare_copy_and_store", "23 without `beqz r6,@53`"],
        why: WHOLE_TURNS,
    },
    Survivor {
        arch: Arch::Riscv64,
        parts: &["compare_copy_and_store", "10 without `or r6,r8,r3`"],
        why: "a copy by words and one by bytes store the same; a misaligned access is only slow here",
    },
    Survivor {
        arch: Arch::Aarch64,
        parts: &[": 1 without `add ...`"],
        why: "the lower half of the descriptor's address is 0 where that lies at the start of a page",
    },
    Survivor {
        arch: Arch::Aarch64,
        parts: &[" relaxed `stlr "],
        why: ORDER,
    },
    Survivor {
        arch: Arch::Riscv64,
        parts: &[" without `fence rw,w`"],
        why: ORDER,
    },
];

fn cases(_: &Context, at: At) -> Result<Vec<Case>> {
    let At::Place(place) = at else {
        return Ok(vec![]);
    };
    // On other kernels the same tests kill the same mutants.
    let system = place.system().is_some_and(|one| one.tests == ["mutants::"]);
    if place.machine != Machine::Native && !system {
        return Ok(vec![]);
    }
    Ok(vec![Case::new("sections", move |cx| run(cx, place))])
}

fn needs(cx: &Context, at: At) -> Vec<Need> {
    let At::Place(place) = at else {
        return vec![];
    };
    let mut needs = guest_needs(cx, at);
    needs.extend((golden::FAMILY.needs)(cx, At::Link(place.arch)));
    needs
}

fn run(cx: &Context, place: Place) -> Result<Outcome> {
    let arch = place.arch;
    let (suite, golden) = (guest(cx, arch, "suite")?, guest(cx, arch, "golden")?);
    let operations = all(arch, &golden)?;
    let (mut mutants, mut killers) = (Vec::new(), Vec::new());
    let mut rest = of(arch, &suite, &operations)?;
    for group in &GROUPS {
        let is_its = |mutant: &mut Mutant| group.sections.contains(&parts(&mutant.section).1);
        let mut own: Vec<Mutant> = rest.extract_if(.., is_its).collect();
        sample(cx, &mut own);
        let mut controls = BTreeSet::new();
        own.retain(|mutant| {
            let (index, name) = parts(&mutant.section);
            !mutant.is_none() || controls.insert((index, name.to_owned()))
        });
        // Nothing that runs on an emulated machine tells these from the section.
        let is_alike = |mutant: &mut Mutant| {
            let known = survivor(arch, &mutant.name);
            place.boots() && known.is_some_and(|known| known.why == ORDER)
        };
        let alike: Vec<Mutant> = own.extract_if(.., is_alike).collect();
        let at_once = if place.boots() { AT_ONCE } else { own.len() };
        for some in own.chunks(at_once.max(1)) {
            match judged(cx, place, &suite, group, some)? {
                Killers::Skipped(why) => return Ok(Outcome::Skipped(why)),
                Killers::All(all) => killers.extend(all),
            }
        }
        mutants.extend(own);
        killers.extend(alike.iter().map(|_| None));
        mutants.extend(alike);
    }
    ensure!(rest.is_empty(), "{} is in no group", rest[0].section);
    let by_golden = of(arch, &golden, &operations)?;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut unknown = Vec::new();
    let mut table = String::new();
    for (mutant, killer) in mutants.iter().zip(killers) {
        if mutant.is_none() {
            continue;
        }
        let name = &mutant.name;
        let killer = match killer {
            Some(test) => test,
            None => {
                let judge = judge_of_text(arch, &golden, &operations, &by_golden, name)?;
                let who = judge.unwrap_or("nobody");
                match survivor(arch, name) {
                    Some(one) => format!("{who}: {}", one.why),
                    None => {
                        unknown.push(format!("{name}: {who}"));
                        who.to_owned()
                    }
                }
            }
        };
        let _ = writeln!(table, "{name}: {killer}");
        let who = killer.split(": ").next().unwrap_or_default();
        *counts.entry(who.to_owned()).or_default() += 1;
    }
    keep_console(cx, "mutants-table", place, &table);
    if !unknown.is_empty() {
        let (count, names) = (unknown.len(), unknown.join("\n"));
        bail!(Failure {
            why: format!(
                "{count} mutants that no test of theirs notices, and no reason stands in the table"
            ),
            console: names
        });
    }
    let counts: Vec<String> = counts
        .iter()
        .map(|(who, count)| format!("{who} {count}"))
        .collect();
    let count = mutants.iter().filter(|mutant| !mutant.is_none()).count();
    let counts = counts.join(", ");
    Ok(Outcome::Passed(format!(
        "{count} mutants, noticed by {counts}"
    )))
}

/// All mutants if asked for by name, else every fourth: all of them take a minute.
fn sample(cx: &Context, mutants: &mut Vec<Mutant>) {
    if cx.only.iter().any(|part| part.starts_with(FAMILY.name)) {
        return;
    }
    let mut nth = 0;
    mutants.retain(|mutant| {
        nth += usize::from(!mutant.is_none());
        mutant.is_none() || nth % 4 == 0
    });
}

/// Runs the tests of a group on its mutants.
fn judged(
    cx: &Context,
    place: Place,
    suite: &Path,
    group: &Group,
    mutants: &[Mutant],
) -> Result<Killers> {
    // Kept, for running the suite on it by hand.
    let folder = cx.store().join("mutants");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{}-{}", place.arch, group.sections[0]));
    std::fs::write(&file, words(group, mutants))?;
    let names: Vec<&str> = mutants.iter().map(|mutant| &*mutant.name).collect();
    std::fs::write(file.with_extension("txt"), names.join("\n"))?;
    let path = match place.boots() {
        true => "/mutants".to_owned(),
        false => file.display().to_string(),
    };
    let (patience, only) = (load().to_string(), group.tests.join(","));
    let arguments = [
        ["--scale", place.scale()],
        ["--patience", &patience],
        ["--only", &only],
        ["--mutants", &path],
    ];
    let more = [("mutants", file)];
    let run = boot::run(cx, place, suite, &more, arguments.as_flattened())?;
    let output = run.finished.output;
    keep_console(
        cx,
        &format!("mutants-{}", group.sections[0]),
        place,
        &output,
    );
    killers(&output, mutants).map_err(|why| Failure::error(format!("{why:#}"), output))
}

/// The killer of each mutant, if any.
enum Killers {
    All(Vec<Option<String>>),
    Skipped(String),
}

fn killers(output: &str, mutants: &[Mutant]) -> Result<Killers> {
    let mut verdicts = console::all(output, "@mutant").map(|line| {
        let (name, verdict) = line.split_once(' ').unwrap_or((line, ""));
        let killer = verdict.strip_prefix("killed ");
        (
            name,
            verdict,
            killer.map(|killer| killer.split(": ").next().unwrap_or(killer)),
        )
    });
    let mut killers = Vec::new();
    for (mutant, verdict) in mutants.iter().zip(&mut verdicts) {
        let (number, verdict, killer) = verdict;
        if let Some(why) = verdict.strip_prefix("skipped ") {
            return Ok(Killers::Skipped(why.to_owned()));
        }
        ensure!(
            number == killers.len().to_string(),
            "verdicts in another order"
        );
        if mutant.is_none() {
            ensure!(killer.is_none(), "{}: {verdict}", mutant.name);
        }
        killers.push(killer.map(str::to_owned));
    }
    let (count, all) = (killers.len(), mutants.len());
    ensure!(count == all, "{count} of {all} mutants were judged");
    Ok(Killers::All(killers))
}

/// Who notices the same mutant in the golden program by its instructions.
fn judge_of_text(
    arch: Arch,
    golden: &Path,
    operations: &[Operation],
    mutants: &[Mutant],
    name: &str,
) -> Result<Option<&'static str>> {
    let mutant = mutants.iter().find(|mutant| mutant.name == name);
    let bytes = patched(
        golden,
        mutant.with_context(|| format!("no {name} in the golden program"))?,
    )?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), bytes)?;
    // An error is an invalid descriptor.
    let Ok(others) = all(arch, file.path()) else {
        return Ok(Some(GOLDEN));
    };
    let pinned = |all: &[Operation]| -> Vec<Vec<String>> {
        let pinned = all.iter().filter(|one| one.is_pinned());
        pinned.map(|one| one.section.clone()).collect()
    };
    if pinned(operations) != pinned(&others) {
        return Ok(Some(GOLDEN));
    }
    let is_ordered = others.iter().all(|other| other.is_ordered(arch));
    Ok((!is_ordered).then_some(RELEASES))
}

fn survivor(arch: Arch, name: &str) -> Option<&'static Survivor> {
    let is_it =
        |one: &&Survivor| one.arch == arch && one.parts.iter().all(|part| name.contains(part));
    SURVIVORS.iter().find(is_it)
}

/// The mutants in the guest's input format.
fn words(group: &Group, mutants: &[Mutant]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for mutant in mutants {
        let (index, name) = parts(&mutant.section);
        let section = group.sections.iter().position(|section| *section == name);
        bytes.extend(index.to_le_bytes());
        bytes.extend(section.unwrap_or_default().to_le_bytes());
        bytes.extend(mutant.patches.len().to_le_bytes());
        for patch in &mutant.patches {
            let mut room = [0; 32];
            room[..patch.bytes.len()].copy_from_slice(&patch.bytes);
            bytes.extend(patch.at.to_le_bytes());
            bytes.extend(patch.bytes.len().to_le_bytes());
            bytes.extend(room);
        }
    }
    bytes
}
