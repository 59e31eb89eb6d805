//! The ratios that matter, each taken within the rounds.

use serde::Serialize;

use super::rounds::Samples;
use super::stats::Summary;

/// A row: group, name, variant. `{cpus}` in a name is the greatest measured number of threads that has a CPU for each.
type Key = (&'static str, &'static str, &'static str);

/// How many times one row takes the time of another.
struct Wanted {
    of: Key,
    over: Key,
    /// What the project wants to see; it is told, not asserted.
    aim: &'static str,
}

const fn wanted(of: Key, over: Key, aim: &'static str) -> Wanted {
    Wanted { of, over, aim }
}

const CPU: &str = "CPU number";
const ALL: &str = "add, threads: {cpus}";
const POOL: &str = "pool pop+push, threads: {cpus}";
const GREEN: &str = "switch, carriers: {cpus}";

const RATIOS: [Wanted; 27] = [
    wanted(("cpu", CPU, "vDSO"), ("cpu", CPU, "load"), "at least 10"),
    wanted(("cpu", CPU, "vDSO"), ("cpu", CPU, "current_cpu"), ""),
    wanted(
        ("cpu", CPU, "glibc, rseq off"),
        ("cpu", CPU, "current_cpu"),
        "",
    ),
    wanted(("cpu", CPU, "system call"), ("cpu", CPU, "current_cpu"), ""),
    wanted(
        ("cpu", CPU, "glibc, static"),
        ("cpu", CPU, "musl, hooks"),
        "",
    ),
    wanted(("cpu", CPU, "musl, stock"), ("cpu", CPU, "musl, hooks"), ""),
    wanted(("cpu", CPU, "vDSO"), ("cpu", CPU, "musl, hooks"), ""),
    wanted(("cpu", CPU, "vDSO"), ("cpu", CPU, "C interface"), ""),
    wanted(
        ("ops", "add", "per-CPU"),
        ("ops", "add", "plain"),
        "at most 1.5",
    ),
    wanted(
        ("ops", "add", "per-CPU"),
        ("ops", "add", "plain, by pointer"),
        "",
    ),
    wanted(
        ("ops", "add", "atomic"),
        ("ops", "add", "per-CPU"),
        "at least 2",
    ),
    wanted(
        ("ops", "add", "per-CPU atomic, getcpu"),
        ("ops", "add", "per-CPU"),
        "",
    ),
    wanted(
        ("structures", "Counter::add", "per-CPU"),
        ("structures", "Counter::add", "plain"),
        "at most 1.5",
    ),
    wanted(
        ("structures", "Counter::add", "atomic"),
        ("structures", "Counter::add", "per-CPU"),
        "at least 2",
    ),
    wanted(
        ("contended", ALL, "shared atomic"),
        ("contended", ALL, "Counter"),
        "at least 10",
    ),
    wanted(
        ("contended", ALL, "per-CPU atomic, getcpu"),
        ("contended", ALL, "Counter"),
        "",
    ),
    wanted(
        ("contended", POOL, "mutex"),
        ("contended", POOL, "per-CPU"),
        "",
    ),
    wanted(
        ("contended", POOL, "atomic"),
        ("contended", POOL, "per-CPU"),
        "",
    ),
    wanted(
        ("hooks", "clone+exit", "keep"),
        ("hooks", "clone+exit", "bare"),
        "",
    ),
    wanted(
        ("hooks", "clone+exit", "release"),
        ("hooks", "clone+exit", "bare"),
        "",
    ),
    wanted(
        ("threads", "create+join", "musl, hooks"),
        ("threads", "create+join", "musl, stock"),
        "",
    ),
    wanted(
        ("threads", "create+detach", "musl, hooks"),
        ("threads", "create+detach", "musl, stock"),
        "",
    ),
    wanted(
        ("threads", "create+join", "musl, hooks"),
        ("threads", "create+join", "glibc, static"),
        "",
    ),
    wanted(
        ("threads", "create+detach", "musl, hooks"),
        ("threads", "create+detach", "glibc, static"),
        "",
    ),
    wanted(
        ("threads", "create+join", "glibc, static"),
        ("threads", "create+join", "glibc, static, rseq off"),
        "",
    ),
    wanted(
        ("green", GREEN, "mutex"),
        ("green", GREEN, "percpu"),
        "at least 2",
    ),
    wanted(
        ("green", GREEN, "mpmc"),
        ("green", GREEN, "percpu"),
        "at least 1",
    ),
];

/// A ratio that could be taken.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    /// The row whose time is divided.
    pub of: String,
    /// The row that it is divided by.
    pub over: String,
    /// What the project wants.
    pub aim: &'static str,
    /// Over the rounds.
    #[serde(flatten)]
    pub summary: Summary,
}

/// Those that the rows allow.
pub fn all(rows: &[Samples], cpus: usize) -> Vec<Ratio> {
    let threads = [8, 4, 2, 1].into_iter().find(|&n| n <= cpus).unwrap_or(1);
    let one = |wanted: &Wanted| {
        let (of, over) = (
            find(rows, wanted.of, threads)?,
            find(rows, wanted.over, threads)?,
        );
        Some(Ratio {
            of: format!("{}: {}", of.name, of.variant),
            over: format!("{}: {}", over.name, over.variant),
            aim: wanted.aim,
            summary: within(of, over)?,
        })
    };
    RATIOS.iter().filter_map(one).collect()
}

fn find(rows: &[Samples], (group, name, variant): Key, threads: usize) -> Option<&Samples> {
    let name = name.replace("{cpus}", &threads.to_string());
    rows.iter()
        .find(|row| row.group == group && row.name == name && row.variant == variant)
}

/// The ratio of two rows, round by round.
pub fn within(of: &Samples, over: &Samples) -> Option<Summary> {
    let both = of.values.iter().zip(&over.values);
    Summary::of(both.filter_map(|(of, over)| Some((*of)? / (*over)?)))
}
