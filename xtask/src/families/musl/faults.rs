//! The hooked musl on this machine only: broken variants die, system calls are counted, a real program runs.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::pigz;
use super::programs::{Kind, PIE, Programs, names};
use crate::arch::Arch;
use crate::case::{Case, Judged};
use crate::console;
use crate::context::Context;
use crate::machine::boot::{self, Run};
use crate::machine::place::Place;
use crate::musl::Variant;
use crate::outcome::Failure;
use crate::process::{command, output};

/// Name and body of a case.
pub type Row = (&'static str, fn(&Context, Arch) -> Result<String>);

const ROWS: [Row; 10] = [
    (PIE, static_pie),
    ("broken/release-after-unmap-dies", |cx, arch| {
        dies(cx, arch, Variant::DetachedAfterUnmap)
    }),
    ("broken/release-absent-dies", |cx, arch| {
        dies(cx, arch, Variant::DetachedAbsent)
    }),
    ("off-by-default", off_by_default),
    ("header/c99", |cx, arch| {
        header(cx, arch, &["-xc", "-std=c99"])
    }),
    ("header/c++98", |cx, arch| {
        header(cx, arch, &["-xc++", "-std=c++98", "-fno-exceptions"])
    }),
    ("system-calls/joinable", |cx, arch| {
        costs(cx, arch, "joinable", &BIRTH)
    }),
    ("system-calls/detached", |cx, arch| {
        costs(cx, arch, "detached", &[&BIRTH[..], &DEATH].concat())
    }),
    ("pigz/static", |cx, arch| {
        pigz::test(cx, arch, Variant::Hooked, Kind::Static)
    }),
    ("pigz/shared", |cx, arch| {
        pigz::test(cx, arch, Variant::Hooked, Kind::Shared)
    }),
];

/// System calls added by the hooks: phase, call, times.
type Cost = (&'static str, &'static str, i64);

const BIRTH: [Cost; 2] = [("birth", "rseq=", 1), ("birth", "mask=", 2)];
const DEATH: [Cost; 2] = [("death", "rseq=", 1), ("death", "mask=", 1)];

pub fn cases(arch: Arch) -> Vec<Case> {
    let case = |(name, run): Row| {
        let case = Case::new(name, move |cx| run(cx, arch));
        case.in_job(format!("our musl: {name}"))
    };
    ROWS.map(case).into()
}

pub fn native(cx: &Context, arch: Arch, program: &Path, arguments: &[&str]) -> Result<Run> {
    boot::run(cx, Place::of_programs(arch), program, &[], arguments)
}

/// The storm against a musl with a misplaced or missing release hook: every process is killed.
fn dies(cx: &Context, arch: Arch, variant: Variant) -> Result<String> {
    let program = Programs::open(cx, arch, variant)?.link_static(cx)?;
    let arguments = ["--scale", "native", "--only", "detached_storm"];
    let said = native(cx, arch, &program, &arguments)?.finished.output;
    let mut facts = console::all(&said, "@fact");
    let dead = facts.find_map(|fact| fact.strip_prefix("dead ")?.split_once('/'));
    let (dead, all) =
        dead.ok_or_else(|| Failure::error("the storm did not say who died", &*said))?;
    let counts = format!("{dead} of {all} processes died by SIGSEGV");
    let failed = said.contains("@test static/detached_storm failed");
    ensure!(dead == all && failed, "{counts}");
    Ok(counts)
}

/// All tests in a static PIE: it starts in other code, and its trio lies elsewhere.
fn static_pie(cx: &Context, arch: Arch) -> Result<String> {
    let program = Programs::open(cx, arch, Variant::Hooked)?.link_pie(cx)?;
    let names = names(cx)?.into_iter();
    let names: Vec<String> = names.map(|name| format!("{PIE}/{name}")).collect();
    let run = native(cx, arch, &program, &["--scale", "emulated"])?.finished;
    let judged = console::judge(&run.output, &names, run.end, true);
    Judged::sum(Judged::all(judged.tests, &run.output))
}

/// The musl whose programs must opt in to rseq.
fn off_by_default(cx: &Context, arch: Arch) -> Result<String> {
    let program = Programs::open(cx, arch, Variant::Off)?.link_static(cx)?;
    // The second program installs a filter that kills for rseq(2), and then starts the first.
    for (argument, switch) in [
        ("--off", None),
        ("--killed", None),
        ("--executed", Some("1")),
    ] {
        let mut started = command(&program);
        started.arg(argument).env_remove("MUSL_RSEQ");
        match switch {
            Some(switch) => started.env("MUSL_RSEQ", switch),
            None => started.env("NO_RSEQ_EXPECTED", ""),
        };
        output(&mut started, argument, 60)?;
    }
    let note = "also where rseq(2) kills; on with MUSL_RSEQ=1";
    Ok(note.to_owned())
}

/// A program that uses rseq by `<sys/rseq.h>`, with warnings enabled.
fn header(cx: &Context, arch: Arch, language: &[&str]) -> Result<String> {
    let programs = Programs::open(cx, arch, Variant::Hooked)?;
    let name = format!("header{}", language[1].replace("-std=", "-"));
    let flags = [
        language,
        &["-pedantic", "-Wsystem-headers", "-Wno-long-long", "-static"],
    ]
    .concat();
    let program = programs.link(cx, &name, &flags, &["header.c"])?;
    Ok(output(&mut command(program), "the program", 60)?
        .trim()
        .to_owned())
}

/// Number of calls by phase and call.
type Counts = BTreeMap<(String, String), i64>;

/// A hundred threads under the hooked musl and under the stock one: the difference is the cost of the hooks.
fn costs(cx: &Context, arch: Arch, kind: &str, expected: &[Cost]) -> Result<String> {
    let count = |variant| {
        let program =
            Programs::open(cx, arch, variant)?.link(cx, "count", &["-static"], &["count.c"])?;
        let said = output(command(&program).arg(kind), "the counter", 120)?;
        counts(&said).context("a count that is none")
    };
    let (ours, stock) = (count(Variant::Hooked)?, count(Variant::Stock)?);
    let mut more = ours;
    for (call, times) in &stock {
        *more.entry(call.clone()).or_default() -= times;
    }
    // The number of futex waits depends on timing.
    more.retain(|(_, call), times| *times != 0 && !call.starts_with("futex="));
    let each = |(phase, call): &(String, String)| {
        let is = |cost: &&Cost| cost.0 == phase && call.starts_with(cost.1);
        expected.iter().find(is).map(|(_, _, each)| 100 * each)
    };
    let right =
        more.len() == expected.len() && more.iter().all(|(call, times)| each(call) == Some(*times));
    let calls: Vec<String> = more
        .iter()
        .map(|((phase, call), times)| format!("{phase} {call} {times:+}"))
        .collect();
    let calls = format!("100 threads, against stock musl: {}", calls.join(", "));
    ensure!(right && !stock.is_empty(), "{calls}");
    Ok(calls)
}

/// Parses lines `@count PHASE CALL TIMES`.
fn counts(said: &str) -> Option<Counts> {
    let count = |line: &str| {
        let mut words = line.split(' ');
        let call = (words.next()?.to_owned(), words.next()?.to_owned());
        Some((call, words.next()?.parse().ok()?))
    };
    console::all(said, "@count").map(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_read() {
        let counts = counts("@count birth rseq=334 100\nnoise\n@count death 60 7\n").unwrap();
        assert_eq!(counts.len(), 2);
        assert_eq!(counts[&("birth".to_owned(), "rseq=334".to_owned())], 100);
    }
}
