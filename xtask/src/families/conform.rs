//! `rseq-conform`: every system of the matrix is judged; known-bad and simulated systems must be detected.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::arch::Arch;
use crate::case::{Case, Family};
use crate::cell::{At, keep_console};
use crate::context::Context;
use crate::guests::{guest, guest_needs};
use crate::machine::boot;
use crate::machine::place::{Machine, Place};
use crate::outcome::{Failure, Missing};
use crate::process::{End, command, run};

pub const FAMILY: Family = Family {
    name: "conform",
    cases,
    needs: guest_needs,
};

const SECONDS: u64 = 600;
/// Seconds for one check, on an idle machine.
const LIMIT: u32 = 300;

type Check = (&'static str, fn(&Context, Arch) -> Result<String>);

/// Checks of the program itself, for which one system is enough.
const NATIVELY: [Check; 7] = [
    ("json", json),
    ("hung", hung),
    ("arguments", arguments),
    ("one-cpu", one_cpu),
    ("nobody", nobody),
    ("played/pretends", pretends),
    ("played/never-aborts", never_aborts),
];

fn cases(_: &Context, at: At) -> Result<Vec<Case>> {
    let At::Place(place) = at else {
        return Ok(vec![]);
    };
    let mut cases = vec![Case::new("system", move |cx| system(cx, place))];
    if place.machine == Machine::Native {
        let case = |(name, judge): Check| Case::new(name, move |cx| judge(cx, place.arch));
        cases.extend(NATIVELY.map(case));
    }
    Ok(cases)
}

/// A check that failed.
#[derive(Debug)]
struct Failed {
    name: String,
    level: String,
    seen: String,
}

/// The output of one run.
#[derive(Debug, Default)]
struct Report {
    passed: Vec<String>,
    skipped: Vec<String>,
    failed: Vec<Failed>,
    verdict: String,
}

/// Parses TAP between any output of firmware and kernel.
fn read(console: &str) -> Result<Report> {
    let mut report = Report::default();
    let mut planned = None;
    for line in console.lines().map(str::trim_end) {
        let name = |text: &str| {
            let named = text.split_once(" - ")?.1.split_once(':')?.0;
            Some(named.to_owned())
        };
        if let Some(name) = line.strip_prefix("ok ").and_then(name) {
            match line.contains(" # SKIP ") {
                true => report.skipped.push(name),
                false => report.passed.push(name),
            }
        } else if let Some(name) = line.strip_prefix("not ok ").and_then(name) {
            let (level, seen) = (String::new(), String::new());
            report.failed.push(Failed { name, level, seen });
        } else if let Some(count) = line.strip_prefix("1..") {
            planned = count.parse().ok();
        } else if let Some(verdict) = line.strip_prefix("# verdict: ") {
            report.verdict = verdict.to_owned();
        } else if let Some(last) = report.failed.last_mut() {
            if let Some(level) = line.strip_prefix("  failure: ") {
                last.level = level.to_owned();
            } else if let Some(seen) = line.strip_prefix("  seen: ") {
                last.seen = seen.to_owned();
            }
        }
    }
    let count = report.passed.len() + report.skipped.len() + report.failed.len();
    let planned: usize = planned.context("no plan")?;
    ensure!(count == planned, "{count} of {planned} checks");
    ensure!(!report.verdict.is_empty(), "no verdict");
    Ok(report)
}

impl Report {
    fn counts(&self) -> String {
        let (passed, failed) = (self.passed.len(), self.failed.len());
        let skipped = self.skipped.len();
        format!("{passed} passed, {failed} failed, {skipped} skipped")
    }

    fn has_failed(&self, name: &str) -> bool {
        self.failed.iter().any(|one| one.name == name)
    }

    fn failed_but(&self, name: &str) -> Vec<&Failed> {
        let failed = self.failed.iter();
        failed.filter(|one| one.name != name).collect()
    }

    /// No check failed.
    fn conforms(&self) -> Result<String> {
        let failed = &self.failed;
        ensure!(self.verdict == "conforms", "{}: {failed:?}", self.verdict);
        Ok(self.counts())
    }

    /// The verdict is "dangerous", and these checks are among those that failed as dangerous.
    fn is_found(&self, names: &[&str]) -> Result<String> {
        ensure!(self.verdict == "dangerous", "the verdict: {}", self.verdict);
        for name in names {
            let found = self.failed.iter().find(|one| one.name == *name);
            let found = found.with_context(|| format!("{name} has not failed"))?;
            ensure!(found.level == "dangerous", "{found:?}");
        }
        let all: Vec<&str> = self.failed.iter().map(|one| &*one.name).collect();
        Ok(format!("found by {}", all.join(", ")))
    }

    /// Sections are not aborted, but all answers and ids are correct.
    fn is_faulty(&self) -> Result<String> {
        let right = |failed: &&Failed| {
            let groups = ["call/", "auxv/", "ids/"];
            groups.iter().any(|group| failed.name.starts_with(group))
        };
        let failed: Vec<&Failed> = self.failed.iter().filter(right).collect();
        ensure!(failed.is_empty(), "{failed:?}");
        self.is_found(&["abort/preemption"])
    }

    /// Stores to the ids are not repaired; everything else conforms.
    fn is_strict(&self) -> Result<String> {
        let other = self.failed_but("stores/legacy");
        let strict = self.verdict == "nuisances" && other.is_empty();
        ensure!(strict, "{}: {other:?}", self.verdict);
        Ok(format!("strict: {}", self.counts()))
    }

    /// Without rseq(2) the verdict says so, rather than "conforms".
    fn is_absent(&self) -> Result<String> {
        let other = self.failed_but("call/there");
        let absent = self.verdict == "no rseq" && self.has_failed("call/there");
        ensure!(absent && other.is_empty(), "{}: {other:?}", self.verdict);
        Ok(format!("no rseq(2): {}", self.counts()))
    }
}

/// Whether this system loses the aborts of preempted sections: Linux 6.19 to 7.0.13 on aarch64.
fn is_faulty(place: Place) -> bool {
    let system = place.system().map_or("", |system| system.name);
    place.arch == Arch::Aarch64 && (system.starts_with("7.0") || system == "6.19")
}

/// Whether the kernel's own checker runs, which kills for a store to the ids with length 32 too.
fn is_strict(place: Place) -> bool {
    let append = place.system().map_or("", |system| system.append);
    append.contains("rseq_debug=1")
}

fn system(cx: &Context, place: Place) -> Result<String> {
    let program = guest(cx, place.arch, "conform")?;
    let seconds = LIMIT * boot::load();
    let arguments = ["--timeout".to_owned(), seconds.to_string()];
    let run = boot::run(cx, place, &program, &[], &arguments)?.finished;
    keep_console(cx, "conform", place, &run.output);
    let judged = read(&run.output).and_then(|report| {
        let expected = match report.verdict.as_str() {
            "conforms" => 0,
            "dangerous" => 1,
            "nuisances" => 2,
            _ => 3,
        };
        let right = run.end == End::Exit(expected);
        ensure!(place.boots() || right, "{}", run.end);
        match place.machine {
            Machine::User => report.is_absent(),
            _ if is_faulty(place) => report.is_faulty(),
            _ if is_strict(place) => report.is_strict(),
            _ => report.conforms(),
        }
    });
    judged.map_err(|why| Failure::error(format!("{why:#}"), run.output))
}

/// The JSON form gives the same result for the same checks.
fn json(cx: &Context, arch: Arch) -> Result<String> {
    let program = guest(cx, arch, "conform")?;
    let said = run(command(&program).arg("--json"), SECONDS)?.output;
    let document: Value = serde_json::from_str(&said).context(said.clone())?;
    let checks = document["checks"].as_array().context("no checks")?;
    let listed = run(command(&program).arg("--list"), SECONDS)?.output;
    let names: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let same = checks
        .iter()
        .map(|check| check["name"].as_str())
        .eq(names.iter().copied().map(Some));
    ensure!(same && names.len() > 40, "{listed}");
    let whole = checks.iter().all(|check| {
        let has = |key: &str| check[key].as_str().is_some_and(|text| !text.is_empty());
        has("outcome") && has("level") && has("rule")
    });
    ensure!(whole && document["status"].is_i64(), "{document}");
    Ok(format!("{} checks", checks.len()))
}

/// A check that does not come to its end is ended, and is a failure.
fn hung(cx: &Context, arch: Arch) -> Result<String> {
    let program = guest(cx, arch, "conform")?;
    // The check takes two seconds per length.
    let arguments = ["--only", "stress/sums", "--timeout", "1"];
    let run = run(command(&program).args(arguments), SECONDS)?;
    let report = read(&run.output).map_err(|why| Failure::error(format!("{why:#}"), run.output))?;
    report.is_found(&["stress/sums"])?;
    let seen = &report.failed[0].seen;
    ensure!(seen.contains("not done after 1 s"), "{seen}");
    Ok(String::new())
}

/// Wrong arguments are no verdict.
fn arguments(cx: &Context, arch: Arch) -> Result<String> {
    let program = guest(cx, arch, "conform")?;
    for (arguments, code) in [
        (&["--only", "no/such"][..], 4),
        (&["--timeout", "soon"], 4),
        (&["--help"], 0),
    ] {
        let run = run(command(&program).args(arguments), SECONDS)?;
        let right = run.end == End::Exit(code);
        ensure!(right, "{arguments:?}: {}", run.output);
    }
    Ok(String::new())
}

/// Runs the program on a system simulated by `played`.
fn on_played(cx: &Context, arch: Arch, kind: &str) -> Result<Report> {
    let (player, program) = (guest(cx, arch, "played")?, guest(cx, arch, "conform")?);
    let run = run(command(&player).arg(kind).arg(&program), SECONDS)?;
    if run.end == End::Exit(77) {
        return Err(Missing::optional(run.output.trim()));
    }
    read(&run.output).map_err(|why| Failure::error(format!("{why:#}"), run.output))
}

/// A system with one CPU: checks that need two are skipped, with the reason.
fn one_cpu(cx: &Context, arch: Arch) -> Result<String> {
    let report = on_played(cx, arch, "one-cpu")?;
    let skipped = |name: &str| report.skipped.iter().any(|one| one == name);
    ensure!(
        skipped("abort/migration") && !skipped("abort/preemption"),
        "{report:?}"
    );
    report.conforms()
}

/// Without root.
fn nobody(cx: &Context, arch: Arch) -> Result<String> {
    on_played(cx, arch, "nobody")?.conforms()
}

/// An emulator that answers 0 and does nothing.
fn pretends(cx: &Context, arch: Arch) -> Result<String> {
    on_played(cx, arch, "pretends")?.is_found(&["call/acts"])
}

/// An emulator that writes the ids, and never aborts.
fn never_aborts(cx: &Context, arch: Arch) -> Result<String> {
    let report = on_played(cx, arch, "never-aborts")?;
    for name in ["call/acts", "call/busy", "call/unregister", "ids/cpu"] {
        ensure!(!report.has_failed(name), "{name}: {:?}", report.failed);
    }
    let by_two: &[&str] = match report.skipped.iter().any(|one| one == "abort/migration") {
        true => &[],
        false => &["abort/migration"],
    };
    report.is_found(by_two)?;
    report.is_found(&["abort/preemption", "abort/signal", "stress/sums"])
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "firmware\nTAP version 14\n1..2\n# system: x\nok 1 - a/b: c: d\n\
                        ok 2 - e/f: g # SKIP one CPU\n# verdict: conforms\n";
    const BAD: &str = "1..2\nok 1 - a: b\nnot ok 2 - c: d\n  ---\n  failure: dangerous\n  seen: \"x\"\n  ...\n\
                       # verdict: dangerous\n";

    #[test]
    fn a_report_is_read() {
        let good = read(GOOD).unwrap();
        assert_eq!(good.conforms().unwrap(), "1 passed, 0 failed, 1 skipped");
        assert!(good.is_found(&[]).is_err() && good.is_absent().is_err());
        let bad = read(BAD).unwrap();
        assert!(bad.conforms().is_err() && bad.is_found(&["a"]).is_err());
        assert_eq!(bad.is_found(&["c"]).unwrap(), "found by c");
        assert_eq!(bad.failed[0].seen, "\"x\"");
    }

    #[test]
    fn a_faulty_kernel_is_right_in_what_it_answers() {
        let failing = |name| read(&BAD.replace("c: d", &format!("{name}: d"))).unwrap();
        assert!(failing("abort/preemption").is_faulty().is_ok());
        assert!(failing("ids/cpu").is_faulty().is_err());
        let both = BAD.replace("c: d", "abort/preemption: d");
        let both = both.replace("\nok 1 - a", "\nnot ok 1 - call/busy");
        assert!(read(&both).unwrap().is_faulty().is_err());
    }

    #[test]
    fn a_run_that_ends_early_is_none() {
        assert!(read(&GOOD.replace("1..2", "1..3")).is_err());
        assert!(read(&GOOD.replace("# verdict", "")).is_err());
        assert!(read("").is_err());
    }
}
