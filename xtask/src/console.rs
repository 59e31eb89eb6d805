//! The console of a guest: one reader for the `@MARK ...` lines of the suites, the programs under musl, and the demo,
//! between any output of firmware and kernel.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::outcome::Outcome;
use crate::process::End;

const MARKS: [&str; 9] = [
    "@fact ", "@test ", "@took ", "@done ", "@name ", "@total ", "@demo ", "@count ", "@mutant ",
];

/// The mark and the text of a console line. Firmware may leave bytes before the first line, and one of our lines may
/// cut off a kernel message.
pub fn marked(line: &str) -> Option<(&str, &str)> {
    let places = MARKS.iter().filter_map(|mark| line.find(mark));
    let (mark, text) = line[places.min()?..].split_once(' ')?;
    Some((mark, text.trim_end()))
}

/// The texts of all lines with one mark.
pub fn all<'a>(console: &'a str, wanted: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = console.lines().filter_map(marked);
    lines.filter_map(move |(mark, text)| (mark == wanted).then_some(text.trim()))
}

/// The test names in a `suite --list`.
pub fn names(console: &str) -> Vec<String> {
    all(console, "@name").map(str::to_owned).collect()
}

fn numbers(text: &str) -> Vec<usize> {
    let words = text.split_whitespace();
    words.filter_map(|word| word.parse().ok()).collect()
}

/// How a run ended; a kernel panic is reported rather than the emulator's exit.
fn ending(console: &str, end: End) -> String {
    match console.contains("Kernel panic") {
        true => "the kernel panicked".to_owned(),
        false => end.to_string(),
    }
}

/// The whole output of one run of a suite.
#[derive(Debug, Default)]
pub struct Suite {
    /// `@fact KEY VALUE`
    pub facts: BTreeMap<String, String>,
    /// Each test and its outcome, in the order they were reached.
    pub tests: Vec<(String, Outcome)>,
    /// `@took TEST MILLISECONDS`
    pub times: BTreeMap<String, Duration>,
}

/// Judges one run. `expected` are the tests it should have reached, `end` is how the guest ended, and
/// `exit_code_counts` is false where the exit code is the emulator's rather than the guest's.
pub fn judge(console: &str, expected: &[String], end: End, exit_code_counts: bool) -> Suite {
    let mut run = Suite::default();
    let mut open: Vec<String> = Vec::new();
    let mut done = None;
    for (mark, text) in console.lines().filter_map(marked) {
        let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
        match mark {
            "@fact" => {
                run.facts.insert(first.to_owned(), rest.trim().to_owned());
            }
            "@test" if rest.trim() == "start" => open.push(first.to_owned()),
            "@test" => {
                if let Some(outcome) = outcome(rest) {
                    open.retain(|other| other != first);
                    run.tests.push((first.to_owned(), outcome));
                }
            }
            "@took" => {
                let time = Duration::from_millis(rest.trim().parse().unwrap_or_default());
                run.times.insert(first.to_owned(), time);
            }
            "@done" => done = Some(numbers(text)),
            _ => {}
        }
    }

    let why = ending(console, end);
    for name in open {
        run.tests.push((
            name,
            Outcome::Failed(format!("began and has no verdict: {why}")),
        ));
    }
    for name in expected {
        if !run.tests.iter().any(|(reached, _)| reached == name) {
            run.tests
                .push((name.clone(), Outcome::Failed(format!("not reached: {why}"))));
        }
    }
    let failed = run
        .tests
        .iter()
        .any(|(_, outcome)| matches!(outcome, Outcome::Failed(_)));
    if !failed
        && let Some(complaint) = complaint(&run, done.as_deref(), end, exit_code_counts, &why)
    {
        run.tests
            .push(("ending".to_owned(), Outcome::Failed(complaint)));
    }
    run
}

/// The outcome after a test's name.
fn outcome(text: &str) -> Option<Outcome> {
    let text = text.trim();
    if let Some(detail) = text.strip_prefix("passed") {
        return Some(Outcome::Passed(detail.trim().to_owned()));
    }
    if let Some(why) = text.strip_prefix("failed") {
        return Some(Outcome::Failed(
            why.trim_start_matches(':').trim().to_owned(),
        ));
    }
    let why = text.strip_prefix("skipped")?.trim_start_matches(':').trim();
    Some(Outcome::Skipped(
        why.strip_prefix("because").unwrap_or(why).trim().to_owned(),
    ))
}

/// The fault of a run without a failed test, if there is one.
fn complaint(
    run: &Suite,
    done: Option<&[usize]>,
    end: End,
    exit_code_counts: bool,
    why: &str,
) -> Option<String> {
    let count = |wanted: fn(&Outcome) -> bool| {
        run.tests
            .iter()
            .filter(|(_, outcome)| wanted(outcome))
            .count()
    };
    let passed = count(|outcome| matches!(outcome, Outcome::Passed(_)));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
    match done {
        None => Some(format!("ended without @done: {why}")),
        Some(counts) if counts != [passed, 0, skipped] => Some(format!(
            "@done says {counts:?}, the lines say [{passed}, 0, {skipped}]"
        )),
        Some(_) if run.tests.is_empty() => Some("ran no test at all".to_owned()),
        Some(_) if exit_code_counts && end != End::Exit(0) => {
            Some(format!("nothing failed, but: {end}"))
        }
        Some(_) => None,
    }
}

#[derive(Debug, Default, Serialize)]
pub struct Demo {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<String>>,
    /// `@total KEY VALUE`, in the order printed.
    pub totals: Vec<(String, String)>,
    /// `@fact KEY VALUE`, if any.
    pub facts: BTreeMap<String, String>,
    pub banner: Vec<String>,
    /// Why it failed; `None` if it passed.
    pub failure: Option<String>,
}

/// Parses the console of the demo; `exit_code_counts` as for [`judge`].
pub fn demo(console: &str, end: End, exit_code_counts: bool) -> Demo {
    let mut demo = Demo::default();
    let mut verdict = None;
    for line in console.lines().map(str::trim_end) {
        if let Some((mark, text)) = marked(line) {
            let (key, value) = text.split_once(' ').unwrap_or((text, ""));
            let pair = (key.to_owned(), value.trim().to_owned());
            match mark {
                "@total" => demo.totals.push(pair),
                "@fact" => demo.facts.extend([pair]),
                "@demo" => verdict = Some(text.trim()),
                _ => {}
            }
        } else if let Some(text) = line.strip_prefix('#') {
            demo.banner.push(text.trim().to_owned());
        } else {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            if words.first().is_some_and(|word| word == "thread") && words.len() > 3 {
                demo.columns = words;
            } else if !demo.columns.is_empty() && words.len() == demo.columns.len() {
                // A line of another width is the kernel's.
                demo.rows.push(words);
            }
        }
    }
    demo.failure = match verdict {
        Some("passed") if demo.rows.is_empty() => Some("passed, and yet has no row".to_owned()),
        Some("passed") if exit_code_counts && end != End::Exit(0) => {
            Some(format!("passed, and yet: {end}"))
        }
        Some("passed") => None,
        Some(text) => {
            let why = text.strip_prefix("failed").unwrap_or(text);
            Some(why.trim_start_matches(':').trim().to_owned())
        }
        None if console.contains("Kernel panic") => Some("the kernel panicked".to_owned()),
        None => Some(format!("ended without a verdict: {end}")),
    };
    demo
}

impl Demo {
    pub fn summary(&self) -> String {
        let totals: Vec<String> = self
            .totals
            .iter()
            .map(|(key, value)| format!("{key} {value}"))
            .collect();
        totals.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn tests_of(console: &str, expected: &[&str], end: End, exit_code_counts: bool) -> Suite {
        let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
        judge(console, &expected, end, exit_code_counts)
    }

    fn failed(why: &str) -> Outcome {
        Outcome::Failed(why.to_owned())
    }

    #[test]
    fn a_death_fails_the_open_test_and_all_after_it() {
        let console = "@test a start\n@test a failed: 1 != 2\n@test b start\n";
        let run = tests_of(console, &["a", "b", "c"], End::Signal(11), true);
        assert_eq!(
            run.tests,
            [
                ("a".into(), failed("1 != 2")),
                (
                    "b".into(),
                    failed("began and has no verdict: killed by SIGSEGV")
                ),
                ("c".into(), failed("not reached: killed by SIGSEGV"))
            ]
        );
        let ended = |more: &str, end| {
            let console = format!("@test b start\n{more}");
            tests_of(&console, &[], end, false).tests.remove(0).1
        };
        let hung = ended("", End::TimedOut(Duration::from_secs(9)));
        assert_eq!(hung, failed("began and has no verdict: no end after 9 s"));
        let panicked = ended("[ 1.0] Kernel panic - not syncing: x\n", End::Exit(0));
        assert_eq!(
            panicked,
            failed("began and has no verdict: the kernel panicked")
        );
    }

    #[test]
    fn no_quiet_pass() {
        let one = "@test a start\n@test a passed\n";
        for (console, end) in [
            (String::new(), End::Exit(0)),
            ("@done 0 0 0\n".to_owned(), End::Exit(0)),
            (one.to_owned(), End::Exit(0)),
            (format!("{one}@done 2 0 0\n"), End::Exit(0)),
            (format!("{one}@done 1 0 0\n"), End::Exit(4)),
        ] {
            let run = tests_of(&console, &[], end, true);
            let last = run.tests.last().unwrap();
            assert!(
                matches!(last, (name, Outcome::Failed(_)) if name == "ending"),
                "{console:?} {run:?}"
            );
        }
        // The code is the emulator's.
        let booted = tests_of(&format!("{one}@done 1 0 0\n"), &[], End::Exit(4), false);
        assert_eq!(booted.tests.len(), 1);
    }

    const GOOD: &str = "# rseq-rt demo\nSeaBIOS (version 1)\n\
        thread kind cpu_before cpu_after node mm_cid owner state exit reclaimed agreed\n\
        0 main 0 3 0 0 this registered - - yes\n\
        1 joinable 1 3 0 1 this registered keep clear-tid yes\n\
        [ 1.2] a kernel message\n\
        @total threads 2\n@total registered 2\n@demo passed\n";

    #[test]
    fn no_quiet_pass_of_the_demo() {
        for (console, end, why) in [
            (GOOD, End::Exit(1), "passed, and yet: exit code 1"),
            ("@demo passed\n", End::Exit(0), "passed, and yet has no row"),
            ("@demo failed: 3 != 4\n", End::Exit(1), "3 != 4"),
            (
                "",
                End::Signal(11),
                "ended without a verdict: killed by SIGSEGV",
            ),
            ("Kernel panic - x", End::Exit(0), "the kernel panicked"),
        ] {
            let failure = demo(console, end, true).failure;
            assert_eq!(failure.as_deref(), Some(why));
        }
    }
}
