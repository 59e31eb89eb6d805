//! What is done with our musl on this machine alone: the broken ones die, the costs are counted, a real program runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::musl::{NAME, run_all_here, run_here};
use super::muslprogram::{Kind, PIE, Programs};
use super::{Job, Selection, pigz};
use crate::arch::Arch;
use crate::install::Need;
use crate::lab::Lab;
use crate::musl::Variant;
use crate::outcome::{Cell, Outcome, Trouble, Verdict};
use crate::place::{Machine, Place};
use crate::process::{self, command};
use crate::protocol;

/// A test's name and what it does.
type Test = (&'static str, fn(&Lab, Arch) -> Judged);

/// The tests.
const TESTS: [Test; 8] = [
    (PIE, static_pie),
    ("broken/release-after-unmap-dies", |lab, arch| {
        dies(lab, arch, Variant::DetachedAfterUnmap)
    }),
    ("broken/release-absent-dies", |lab, arch| {
        dies(lab, arch, Variant::DetachedAbsent)
    }),
    ("off-by-default", off_by_default),
    ("system-calls/joinable", |lab, arch| {
        costs(lab, arch, "joinable", &BIRTH)
    }),
    ("system-calls/detached", |lab, arch| {
        let both = [
            BIRTH[0],
            BIRTH[1],
            ("death", "rseq=", 1),
            ("death", "mask=", 1),
        ];
        costs(lab, arch, "detached", &both)
    }),
    ("pigz/static", |lab, arch| {
        pigz::test(lab, arch, Kind::Static)
    }),
    ("pigz/shared", |lab, arch| {
        pigz::test(lab, arch, Kind::Shared)
    }),
];

/// What the create hook adds: phase, call, times.
const BIRTH: [Cost; 2] = [("birth", "rseq=", 1), ("birth", "mask=", 2)];

type Cost = (&'static str, &'static str, i64);

/// A verdict.
pub type Judged = Result<String, Verdict>;

/// What is missing makes a required test fail.
pub fn required(why: Trouble) -> Verdict {
    why.verdict(true)
}

/// What they take beside a compiler.
pub fn needs(selection: &Selection) -> Vec<Need> {
    if wanted(selection).is_empty() {
        return Vec::new();
    }
    vec![Need::new("make", &["make"], "building musl")]
}

/// The selected ones.
pub fn list(selection: &Selection) -> Vec<(Cell, String)> {
    let Some(place) = here(selection) else {
        return Vec::new();
    };
    let named = |(name, _): &Test| (place.cell(None), (*name).to_owned());
    wanted(selection).iter().map(named).collect()
}

/// The selected ones as work.
pub fn jobs<'lab>(lab: &'lab Lab, selection: &Selection) -> Vec<Job<'lab>> {
    let Some(place) = here(selection) else {
        return Vec::new();
    };
    let job = |(name, test): Test| {
        let place = place.clone();
        Job::alone(format!("our musl: {name}"), move || {
            let begun = Instant::now();
            let verdict = test(lab, place.arch).map_or_else(|bad| bad, Verdict::Passed);
            vec![Outcome::new(&place.cell(None), NAME, name, verdict).took(begun.elapsed())]
        })
    };
    wanted(selection).into_iter().map(job).collect()
}

fn here(selection: &Selection) -> Option<Place> {
    let native = |place: &Place| place.machine == Machine::Native;
    selection.places().into_iter().find(native)
}

fn wanted(selection: &Selection) -> Vec<Test> {
    let here = here(selection).is_some();
    let mut tests = TESTS.to_vec();
    tests.retain(|(name, _)| here && selection.wants(NAME, name));
    tests
}

/// The storm against a musl whose release hook is not where it has to be: every process is killed.
fn dies(lab: &Lab, arch: Arch, variant: Variant) -> Judged {
    let programs = Programs::open(lab, arch, variant).map_err(required)?;
    let program = programs.link(lab, Kind::Static).map_err(required)?;
    let said = run_here(lab, &program, "detached_storm").map_err(required)?;
    let fact = said
        .lines()
        .find_map(|line| line.strip_prefix("@fact dead "));
    let Some((dead, all)) = fact.and_then(|fact| fact.split_once('/')) else {
        return Err(Verdict::Failed(format!(
            "the storm did not say who died: {}",
            process::tail(&said, 3)
        )));
    };
    let told = format!("{dead} of {all} processes died by SIGSEGV");
    if dead == all && said.contains("@test static/detached_storm failed") {
        Ok(told)
    } else {
        Err(Verdict::Failed(told))
    }
}

/// All tests in a static program that relocates itself: its start is another one, and so is where its trio lies.
fn static_pie(lab: &Lab, arch: Arch) -> Judged {
    let programs = Programs::open(lab, arch, Variant::Hooked).map_err(required)?;
    let program = programs.link_pie(lab).map_err(required)?;
    let names: Vec<String> = super::muslprogram::names()
        .map(|name| format!("{PIE}/{name}"))
        .collect();
    let run = run_all_here(lab, &program).map_err(required)?;
    let judged = protocol::judge(&run.finished.output, &names, run.finished.end, true);
    let count = |is: fn(&Verdict) -> bool| judged.tests.iter().filter(|(_, it)| is(it)).count();
    let (passed, skipped) = (
        count(|it| matches!(it, Verdict::Passed(_))),
        count(|it| matches!(it, Verdict::Skipped(_))),
    );
    let told = format!("{passed} tests passed, {skipped} skipped");
    if passed != 0 && passed + skipped == judged.tests.len() {
        return Ok(told);
    }
    let other = judged
        .tests
        .iter()
        .find(|(_, verdict)| !matches!(verdict, Verdict::Passed(_) | Verdict::Skipped(_)));
    Err(Verdict::Failed(format!("{told}; {other:?}")))
}

/// The musl whose programs have to ask for rseq.
fn off_by_default(lab: &Lab, arch: Arch) -> Judged {
    let programs = Programs::open(lab, arch, Variant::Off).map_err(required)?;
    let program = programs.link(lab, Kind::Static).map_err(required)?;
    // The second installs a filter that kills for rseq(2), and then starts as the first.
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
        let run = process::run(&mut started, Duration::from_secs(60))
            .map_err(|why| Verdict::Missing(why.to_string()))?;
        if !run.ok() {
            let why = format!("{argument}: {}: {}", run.end, run.tail(3));
            return Err(Verdict::Failed(why));
        }
    }
    Ok("also where rseq(2) kills; on with MUSL_RSEQ=1".to_owned())
}

/// Calls by phase and number.
type Counts = BTreeMap<(String, String), i64>;

/// A hundred threads under our musl and under the distribution's: what ours call beside the rest is what the hooks cost.
fn costs(lab: &Lab, arch: Arch, kind: &str, expected: &[Cost]) -> Judged {
    let count = |variant| -> Result<Counts, Verdict> {
        let programs = Programs::open(lab, arch, variant).map_err(required)?;
        let program = programs.single(lab, "count").map_err(required)?;
        counted(&program, kind)
    };
    let (ours, stock) = (count(Variant::Hooked)?, count(Variant::Stock)?);
    let mut more = Counts::new();
    for (call, times) in &ours {
        *more.entry(call.clone()).or_default() += times;
    }
    for (call, times) in &stock {
        *more.entry(call.clone()).or_default() -= times;
    }
    // Who waits for whom is a matter of who is faster.
    more.retain(|(_, call), times| *times != 0 && !call.starts_with("futex="));
    let each = |(phase, call): &(String, String)| {
        let is = |cost: &&Cost| cost.0 == phase && call.starts_with(cost.1);
        expected.iter().find(is).map(|(_, _, each)| 100 * each)
    };
    let right =
        more.len() == expected.len() && more.iter().all(|(call, times)| each(call) == Some(*times));
    let told: Vec<String> = more
        .iter()
        .map(|((phase, call), times)| format!("{phase} {call} {times:+}"))
        .collect();
    let told = format!("100 threads, against stock musl: {}", told.join(", "));
    if right && !stock.is_empty() {
        Ok(told)
    } else {
        Err(Verdict::Failed(told))
    }
}

fn counted(program: &Path, kind: &str) -> Result<Counts, Verdict> {
    let run = process::run(command(program).arg(kind), Duration::from_secs(120))
        .map_err(|why| Verdict::Missing(why.to_string()))?;
    if !run.ok() {
        let why = format!("the counter: {}: {}", run.end, run.tail(3));
        return Err(Verdict::Failed(why));
    }
    Ok(parse(&run.output))
}

fn parse(said: &str) -> Counts {
    let counts = said.lines().filter_map(|line| {
        let mut words = line.strip_prefix("@count ")?.split(' ');
        let call = (words.next()?.to_owned(), words.next()?.to_owned());
        Some((call, words.next()?.parse().ok()?))
    });
    counts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_read() {
        let counts = parse("@count birth rseq=334 100\nnoise\n@count death 60 7\n");
        assert_eq!(counts.len(), 2);
        assert_eq!(counts[&("birth".to_owned(), "rseq=334".to_owned())], 100);
    }
}
