//! The test matrix: a case is a row, a family is a table of rows per cell, a job is one uninterrupted run.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use serde::Serialize;

use crate::arch::Arch;
use crate::cell::{At, Cell};
use crate::context::Context;
use crate::install::Need;
use crate::machine::place::Place;
use crate::outcome::{Failure, Outcome, copy, tail};

/// A row of the matrix.
pub struct Case {
    pub name: String,
    /// The job it belongs to, unless it is the default of its family and cell.
    job: Option<String>,
    run: Run,
    /// Builds what it runs, ahead of its turn.
    build: Option<Build>,
}

pub type Build = Arc<dyn Fn(&Context) + Send + Sync>;

/// How a case runs. What fails is an error; what is missing is [`crate::outcome::Missing`].
enum Run {
    Alone(Alone),
    /// Together with others, in one run of one program.
    Together(Together),
}

type Alone = Box<dyn Fn(&Context) -> Result<Outcome> + Send + Sync>;

/// Runs the named tests, or all of them.
type Together = Arc<dyn Fn(&Context, &[String]) -> Result<Vec<Judged>> + Send + Sync>;

/// A test that ran inside a program of many.
pub struct Judged {
    pub test: String,
    pub outcome: Outcome,
    /// The console output, for a failure.
    pub console: String,
    /// Its duration, where the program reports it.
    pub time: Duration,
}

impl Judged {
    /// All tests of one console.
    pub fn all(tests: Vec<(String, Outcome)>, console: &str) -> Vec<Judged> {
        let one = |(test, outcome)| Judged {
            test,
            outcome,
            console: console.to_owned(),
            time: Duration::ZERO,
        };
        tests.into_iter().map(one).collect()
    }

    /// The number that passed, or the first that did not, with its console.
    pub fn sum(all: Vec<Judged>) -> Result<String> {
        let (mut passed, mut skipped) = (0, 0);
        for one in all {
            match one.outcome {
                Outcome::Passed(_) => passed += 1,
                Outcome::Skipped(_) => skipped += 1,
                Outcome::Failed(why) | Outcome::Missing(why) => {
                    return Err(Failure::error(format!("{}: {why}", one.test), one.console));
                }
            }
        }
        let counts = format!("{passed} tests passed, {skipped} skipped");
        ensure!(passed > 0, "{counts}");
        Ok(counts)
    }
}

impl Case {
    /// A case that runs by itself. It passes with or without a note; any other outcome is an error.
    pub fn new<Note: Into<Outcome>>(
        name: impl Into<String>,
        run: impl Fn(&Context) -> Result<Note> + Send + Sync + 'static,
    ) -> Case {
        Case {
            name: name.into(),
            job: None,
            run: Run::Alone(Box::new(move |cx| run(cx).map(Into::into))),
            build: None,
        }
    }

    pub fn together(
        names: impl IntoIterator<Item = String>,
        run: impl Fn(&Context, &[String]) -> Result<Vec<Judged>> + Send + Sync + 'static,
    ) -> Vec<Case> {
        let run: Together = Arc::new(run);
        let case = |name| Case {
            name,
            job: None,
            run: Run::Together(Arc::clone(&run)),
            build: None,
        };
        names.into_iter().map(case).collect()
    }

    /// The same in a job of that name.
    pub fn in_job(mut self, title: impl Into<String>) -> Case {
        self.job = Some(title.into());
        self
    }

    /// The same, which may be built ahead of its turn: `build` makes things once, and what goes wrong is met again when it
    /// runs.
    pub fn ahead<T>(
        mut self,
        build: impl Fn(&Context) -> Result<T> + Send + Sync + 'static,
    ) -> Case {
        self.build = Some(Arc::new(move |cx| drop(build(cx))));
        self
    }
}

/// A table of cases.
pub struct Family {
    pub name: &'static str,
    /// The cases of a cell, in the order they run.
    pub cases: fn(&Context, At) -> Result<Vec<Case>>,
    /// Programs to install first.
    pub needs: fn(&Context, At) -> Vec<Need>,
}

/// The part of the matrix selected by the command line.
#[derive(Debug, Default)]
pub struct Selection {
    /// `--only`: substrings of `family::test` names; empty means everything.
    pub only: Vec<String>,
    /// `--arch`
    pub arches: Vec<Arch>,
    /// The places selected by `--arch`, `--kernel` and `--all-kernels`.
    pub places: Vec<Place>,
    /// True if no `--kernel` was given.
    pub any_kernel: bool,
}

impl Selection {
    fn cells(&self) -> Vec<At> {
        let mut cells = At::without_kernels();
        cells.retain(|at| {
            // Checks of the sources belong to no CPU and no kernel: selecting either leaves them out.
            let wanted = at.arch().is_none_or(|arch| self.arches.contains(&arch));
            let any_arch = self.arches.is_empty();
            self.any_kernel && (any_arch || wanted && *at != At::Host)
        });
        cells.extend(self.places.iter().copied().map(At::Place));
        cells
    }

    fn wants(&self, family: &str, test: &str) -> bool {
        let name = format!("{family}::{test}");
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }

    /// Whether any test of a family may be wanted, decided without listing them.
    fn may_want(&self, family: &str) -> bool {
        let elsewhere = |part: &String| {
            let named = part.split_once("::");
            named.is_some_and(|(other, _)| !family.ends_with(other))
        };
        self.only.is_empty() || !self.only.iter().all(elsewhere)
    }
}

pub struct Rows {
    family: &'static Family,
    at: At,
    cases: Vec<Case>,
}

/// The wanted rows, family by family.
pub fn select(cx: &Context, selection: &Selection, families: &'static [Family]) -> Vec<Rows> {
    let cells = selection.cells();
    let of = |family: &'static Family| -> Vec<Rows> {
        let of = |at: &At| rows(cx, selection, family, *at);
        cells.iter().map(of).collect()
    };
    let families = families.iter().filter(|one| selection.may_want(one.name));
    // At once: some build a program and ask it for its tests.
    let mut all: Vec<Rows> = thread::scope(|scope| {
        let listed: Vec<_> = families.map(|one| scope.spawn(move || of(one))).collect();
        let listed = listed.into_iter().map(|rows| rows.join());
        listed.flat_map(|rows| rows.expect("a list")).collect()
    });
    all.retain(|rows| !rows.cases.is_empty());
    all
}

fn rows(cx: &Context, selection: &Selection, family: &'static Family, at: At) -> Rows {
    let cases = match (family.cases)(cx, at) {
        Ok(mut cases) => {
            let runs = |name: &str| at.place().is_none_or(|place| place.runs(family.name, name));
            cases.retain(|case| selection.wants(family.name, &case.name) && runs(&case.name));
            cases
        }
        // A program that cannot be asked for its tests is a failure, and not an empty table.
        Err(why) => vec![Case::new("start", move |_| Err::<(), _>(copy(&why)))],
    };
    Rows { family, at, cases }
}

impl Rows {
    /// One `CELL family::test` per row.
    pub fn list(&self, cx: &Context) -> Vec<String> {
        let label = self.at.cell(cx).label;
        let name = |case: &Case| format!("{label} {}::{}", self.family.name, case.name);
        self.cases.iter().map(name).collect()
    }

    pub fn needs(&self, cx: &Context) -> Vec<Need> {
        (self.family.needs)(cx, self.at)
    }

    /// The rows as jobs.
    pub fn jobs(self, cx: &Context) -> Vec<Job> {
        let usual = format!("{} on {}", self.family.name, self.at.cell(cx).label);
        let mut jobs: Vec<Job> = Vec::new();
        for case in self.cases {
            let title = case.job.clone().unwrap_or_else(|| usual.clone());
            match jobs.iter_mut().find(|job| job.title == title) {
                Some(job) => job.cases.push(case),
                None => jobs.push(Job {
                    title,
                    family: self.family.name,
                    at: self.at,
                    cases: vec![case],
                }),
            }
        }
        jobs
    }
}

/// The load that a job puts on this machine, in the order in which such jobs begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Runs programs on it.
    Here,
    /// Checks sources and linked files.
    Files,
    /// Boots a machine.
    Boots,
}

/// Cases that run one after another.
pub struct Job {
    pub title: String,
    family: &'static str,
    at: At,
    cases: Vec<Case>,
}

impl Job {
    /// The place it boots at, whose kernel is fetched in advance.
    pub fn boots(&self) -> Option<Place> {
        self.at.place().filter(|place| place.boots())
    }

    pub fn kind(&self) -> Kind {
        match self.at {
            At::Host | At::Link(_) => Kind::Files,
            At::Libcs(_) => Kind::Here,
            At::Place(place) if place.boots() => Kind::Boots,
            At::Place(_) => Kind::Here,
        }
    }

    /// The builds that may be made ahead of their turn.
    pub fn builds(&self) -> Vec<Build> {
        let builds = self.cases.iter().filter_map(|case| case.build.clone());
        builds.collect()
    }

    /// How many processors of this machine it keeps busy.
    pub fn processors(&self) -> usize {
        self.boots().map_or(1, |place| place.processors())
    }

    pub fn run(self, cx: &Context) -> Vec<Record> {
        let mut records = Vec::new();
        let mut done: Vec<*const ()> = Vec::new();
        for case in &self.cases {
            let started = Instant::now();
            match &case.run {
                Run::Alone(run) => {
                    let mut judged = self.judged(case.name.clone(), run(cx));
                    judged.time = started.elapsed();
                    records.push(self.record(cx, judged));
                }
                Run::Together(run) => {
                    let program = Arc::as_ptr(run).cast();
                    if !done.contains(&program) {
                        done.push(program);
                        let all = self.together(cx, run).into_iter();
                        records.extend(all.map(|one| self.record(cx, one)));
                    }
                }
            }
        }
        records
    }

    /// The outcomes of one program; a test that it does not report has failed.
    fn together(&self, cx: &Context, run: &Together) -> Vec<Judged> {
        let same = |case: &&Case| matches!(&case.run, Run::Together(one) if Arc::ptr_eq(one, run));
        let cases = self.cases.iter().filter(same);
        let names: Vec<String> = cases.map(|case| case.name.clone()).collect();
        let mut all = match (run(cx, &names), &*names) {
            (Ok(all), _) => all,
            (Err(why), [name]) => return vec![self.judged(name.clone(), Err(why))],
            (Err(why), _) => return vec![self.judged("start".to_owned(), Err(why))],
        };
        for name in names {
            // A `cargo test` row stands for all of its tests.
            let prefix = format!("{name}::");
            let is_it = |one: &Judged| one.test == name || one.test.starts_with(&prefix);
            if !all.iter().any(is_it) {
                all.push(self.judged(name, Err(anyhow!("the program does not report it"))));
            }
        }
        all
    }

    fn judged(&self, test: String, result: Result<Outcome>) -> Judged {
        let (outcome, console) = match result {
            Ok(outcome) => (outcome, String::new()),
            Err(why) => Outcome::of(&why, self.at.required()),
        };
        Judged {
            test,
            outcome,
            console,
            time: Duration::ZERO,
        }
    }

    fn record(&self, cx: &Context, judged: Judged) -> Record {
        let failed = matches!(judged.outcome, Outcome::Failed(_) | Outcome::Missing(_));
        let lines = if failed { 40 } else { 0 };
        Record {
            cell: self.at.cell(cx),
            family: self.family,
            test: judged.test,
            outcome: judged.outcome,
            console: tail(&judged.console, lines),
            seconds: (judged.time.as_secs_f64() * 1000.0).round() / 1000.0,
        }
    }
}

/// The outcome of one test in one cell.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    pub cell: Cell,
    /// The family, e.g. `suite`.
    pub family: &'static str,
    pub test: String,
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The tail of the console, for a failure.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub console: String,
    /// Its duration, where it ran by itself or its program reports it.
    pub seconds: f64,
}

impl Record {
    /// `family::test`, which `--only` matches.
    pub fn name(&self) -> String {
        format!("{}::{}", self.family, self.test)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Missing;

    fn family(_: &Context, at: At) -> Result<Vec<Case>> {
        match at {
            At::Host => {
                let mut cases = vec![
                    Case::new("good", |_| Ok(())),
                    Case::new("lacks", |_| Err::<(), _>(Missing::required("no tool"))),
                    Case::new("broken", |_| Err::<(), _>(anyhow!("1 != 2"))),
                ];
                let names = ["reported", "lost"].map(str::to_owned);
                cases.extend(Case::together(names, |_, _| {
                    let reported = ("reported".to_owned(), Outcome::passed());
                    Ok(Judged::all(vec![reported], ""))
                }));
                Ok(cases)
            }
            At::Link(Arch::X86_64) => anyhow::bail!("no list"),
            _ => Ok(vec![]),
        }
    }

    #[test]
    fn what_is_missing_or_not_reported_or_not_listed_is_never_passed() {
        static FAMILIES: [Family; 1] = [Family {
            name: "x",
            cases: family,
            needs: |_, _| vec![],
        }];
        let cx = Context::new(false, 1).unwrap();
        let selection = Selection {
            any_kernel: true,
            ..Selection::default()
        };
        let rows = select(&cx, &selection, &FAMILIES);
        let jobs = rows.into_iter().flat_map(|rows| rows.jobs(&cx));
        let records: Vec<Record> = jobs.flat_map(|job| job.run(&cx)).collect();
        let outcomes: Vec<(String, Outcome)> = records
            .into_iter()
            .map(|record| (record.name(), record.outcome))
            .collect();
        let lost = "the program does not report it".to_owned();
        assert_eq!(
            outcomes,
            [
                ("x::good".into(), Outcome::passed()),
                ("x::lacks".into(), Outcome::Missing("no tool".into())),
                ("x::broken".into(), Outcome::Failed("1 != 2".into())),
                ("x::reported".into(), Outcome::passed()),
                ("x::lost".into(), Outcome::Failed(lost)),
                ("x::start".into(), Outcome::Failed("no list".into())),
            ]
        );
    }

    #[test]
    fn one_failure_is_the_verdict() {
        let one = |outcome| Judged {
            test: "a".to_owned(),
            outcome,
            console: String::new(),
            time: Duration::ZERO,
        };
        let passed = || one(Outcome::passed());
        let counts = "2 tests passed, 0 skipped".to_owned();
        assert!(
            Judged::sum(vec![]).is_err()
                && Judged::sum(vec![one(Outcome::Skipped("x".into()))]).is_err()
        );
        let all = Judged::sum(vec![passed(), passed()]).unwrap();
        assert_eq!(all, counts);
        assert!(Judged::sum(vec![passed(), one(Outcome::Failed("why".into()))]).is_err());
    }
}
