//! What the `suite` guest says, read line by line.

use std::collections::BTreeMap;

use crate::outcome::Verdict;
use crate::process::End;

/// Everything one run of `suite` said.
#[derive(Debug, Default)]
pub struct SuiteRun {
    /// `@fact KEY VALUE`
    pub facts: BTreeMap<String, String>,
    /// Each test and what became of it, in the order they were reached.
    pub tests: Vec<(String, Verdict)>,
}

/// The marks a line of the protocol begins with.
const MARKS: [&str; 4] = ["@fact ", "@test ", "@done ", "@name "];

/// The protocol's part of a console line: firmware may leave bytes before the
/// first line, and a kernel message may be cut off by one of ours.
fn protocol_part(line: &str) -> Option<&str> {
    MARKS
        .iter()
        .filter_map(|mark| line.find(mark))
        .min()
        .map(|at| line[at..].trim_end())
}

/// The names of a `suite --list`.
pub fn names(console: &str) -> Vec<String> {
    let lines = console.lines().filter_map(protocol_part);
    lines
        .filter_map(|line| line.strip_prefix("@name "))
        .map(|name| name.trim().to_owned())
        .collect()
}

/// Judges one run: `expected` are the tests it should have reached, `end` is
/// how the guest ended, and `exit_code_counts` is false where the code is the
/// emulator's and not the guest's.
pub fn judge(console: &str, expected: &[String], end: End, exit_code_counts: bool) -> SuiteRun {
    let mut run = SuiteRun::default();
    let mut open: Vec<String> = Vec::new();
    let mut done = None;
    for line in console.lines().filter_map(protocol_part) {
        if let Some(fact) = line.strip_prefix("@fact ") {
            let (key, value) = fact.split_once(' ').unwrap_or((fact, ""));
            run.facts.insert(key.to_owned(), value.trim().to_owned());
        } else if let Some(test) = line.strip_prefix("@test ") {
            let Some((name, what)) = test.split_once(' ') else {
                continue;
            };
            if what.trim() == "start" {
                open.push(name.to_owned());
            } else if let Some(verdict) = verdict(what) {
                open.retain(|other| other != name);
                run.tests.push((name.to_owned(), verdict));
            }
        } else if let Some(counts) = line.strip_prefix("@done ") {
            let counts: Vec<usize> = counts
                .split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect();
            done = Some(counts);
        }
    }

    let why = match (end, console.contains("Kernel panic")) {
        (_, true) => "the kernel panicked".to_owned(),
        (end, false) => end.to_string(),
    };
    for name in open {
        run.tests.push((
            name,
            Verdict::Failed(format!("began and has no verdict: {why}")),
        ));
    }
    for name in expected {
        if !run.tests.iter().any(|(reached, _)| reached == name) {
            run.tests
                .push((name.clone(), Verdict::Failed(format!("not reached: {why}"))));
        }
    }
    let failed = run
        .tests
        .iter()
        .any(|(_, verdict)| matches!(verdict, Verdict::Failed(_)));
    if !failed
        && let Some(complaint) = complaint(&run, done.as_deref(), end, exit_code_counts, &why)
    {
        run.tests
            .push(("ending".to_owned(), Verdict::Failed(complaint)));
    }
    run
}

/// The verdict after a test's name.
fn verdict(text: &str) -> Option<Verdict> {
    let text = text.trim();
    if let Some(detail) = text.strip_prefix("passed") {
        return Some(Verdict::Passed(detail.trim().to_owned()));
    }
    if let Some(why) = text.strip_prefix("failed") {
        return Some(Verdict::Failed(
            why.trim_start_matches(':').trim().to_owned(),
        ));
    }
    let why = text.strip_prefix("skipped")?.trim_start_matches(':').trim();
    Some(Verdict::Skipped(
        why.strip_prefix("because").unwrap_or(why).trim().to_owned(),
    ))
}

/// What is wrong with a run none of whose tests failed.
fn complaint(
    run: &SuiteRun,
    done: Option<&[usize]>,
    end: End,
    exit_code_counts: bool,
    why: &str,
) -> Option<String> {
    let count = |wanted: fn(&Verdict) -> bool| {
        run.tests
            .iter()
            .filter(|(_, verdict)| wanted(verdict))
            .count()
    };
    let passed = count(|verdict| matches!(verdict, Verdict::Passed(_)));
    let skipped = count(|verdict| matches!(verdict, Verdict::Skipped(_)));
    match done {
        None => Some(format!("ended without @done: {why}")),
        Some(counts) if counts != [passed, 0, skipped] => Some(format!(
            "@done says {counts:?}, the lines say [{passed}, 0, {skipped}]"
        )),
        Some(_) if run.tests.is_empty() => Some("ran no test at all".to_owned()),
        Some(_) if exit_code_counts && end != End::Exit(0) => {
            Some(format!("nothing failed, and yet: {end}"))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_run() {
        let console = "\u{1b}[2Jnoise@fact release 7.2.12\n@test a start\nnoise\n@test a passed 3 rounds\n\
                       @test b start\n@test b skipped: because no such call\n@done 1 0 1\n";
        let run = judge(console, &strings(&["a", "b"]), End::Exit(0), true);
        assert_eq!(run.facts["release"], "7.2.12");
        assert_eq!(
            run.tests,
            [
                ("a".into(), Verdict::Passed("3 rounds".into())),
                ("b".into(), Verdict::Skipped("no such call".into()))
            ]
        );
    }

    #[test]
    fn a_failed_test_keeps_its_text() {
        let run = judge(
            "@test a start\n@test a failed: 1 != 2\n@done 0 1 0\n",
            &strings(&["a"]),
            End::Exit(1),
            true,
        );
        assert_eq!(run.tests, [("a".into(), Verdict::Failed("1 != 2".into()))]);
    }

    #[test]
    fn a_death_fails_the_open_test_and_all_after_it() {
        let console = "@test a start\n@test a passed\n@test b start\n";
        let run = judge(console, &strings(&["a", "b", "c"]), End::Signal(11), true);
        assert_eq!(
            run.tests,
            [
                ("a".into(), Verdict::Passed(String::new())),
                (
                    "b".into(),
                    Verdict::Failed("began and has no verdict: killed by SIGSEGV".into())
                ),
                (
                    "c".into(),
                    Verdict::Failed("not reached: killed by SIGSEGV".into())
                )
            ]
        );
        let hung = judge(
            "@test b start\n",
            &[],
            End::TimedOut(Duration::from_secs(9)),
            false,
        );
        assert_eq!(
            hung.tests[0].1,
            Verdict::Failed("began and has no verdict: no end after 9 s".into())
        );
        let panicked = judge(
            "@test b start\n[ 1.0] Kernel panic - not syncing: x\n",
            &[],
            End::Exit(0),
            false,
        );
        assert_eq!(
            panicked.tests[0].1,
            Verdict::Failed("began and has no verdict: the kernel panicked".into())
        );
    }

    #[test]
    fn no_quiet_pass() {
        for (console, end) in [
            ("", End::Exit(0)),
            ("@done 0 0 0\n", End::Exit(0)),
            ("@test a start\n@test a passed\n", End::Exit(0)),
            ("@test a start\n@test a passed\n@done 2 0 0\n", End::Exit(0)),
            ("@test a start\n@test a passed\n@done 1 0 0\n", End::Exit(4)),
        ] {
            let run = judge(console, &[], end, true);
            let last = &run.tests.last().unwrap();
            assert!(
                matches!(last, (name, Verdict::Failed(_)) if name == "ending"),
                "{console:?} {run:?}"
            );
        }
        let booted = judge(
            "@test a start\n@test a passed\n@done 1 0 0\n",
            &[],
            End::Exit(4),
            false,
        );
        assert_eq!(booted.tests.len(), 1);
    }

    #[test]
    fn a_list_is_a_list() {
        assert_eq!(names("@name one\n# x\n@name two\n"), ["one", "two"]);
    }
}
