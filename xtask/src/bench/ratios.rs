//! The ratios that matter, each taken within the rounds.

use serde::Serialize;

use super::rounds::Samples;
use super::stats::Summary;
use super::{OPERATIONS, THREADS};

/// How many times one variant of a row takes the time of another one. `{cpus}` in a name is the greatest measured number
/// of threads that has a CPU for each.
struct Wanted {
    group: &'static str,
    name: &'static str,
    of: &'static str,
    over: &'static str,
    /// What the project wants to see; it is told, not asserted.
    aim: &'static str,
}

const fn wanted(
    group: &'static str,
    name: &'static str,
    of: &'static str,
    over: &'static str,
    aim: &'static str,
) -> Wanted {
    Wanted {
        group,
        name,
        of,
        over,
        aim,
    }
}

const CPU: &str = "CPU number";
const ALL: &str = "add, threads: {cpus}";
const POOL: &str = "pool pop+push, threads: {cpus}";
const GREEN: &str = "switch, carriers: {cpus}";

/// In every operation's own rows, and in those of it with `{cpus}` threads.
const OF_OPERATIONS: [(bool, &str, &str); 8] = [
    (false, "per-CPU", "plain"),
    (false, "per-CPU, release", "per-CPU"),
    (false, "per-CPU, mm_cid", "per-CPU"),
    (false, "atomic", "per-CPU"),
    (false, "per-CPU atomic, getcpu", "per-CPU"),
    (true, "per-CPU, fetched", "plain"),
    (true, "shared atomic", "per-CPU, fetched"),
    (true, "per-CPU atomic, getcpu", "per-CPU, fetched"),
];

const RATIOS: [Wanted; 27] = [
    wanted("cpu", CPU, "vDSO", "load", "at least 10"),
    wanted("cpu", CPU, "vDSO", "current_cpu", ""),
    wanted("cpu", CPU, "glibc, rseq off", "current_cpu", ""),
    wanted("cpu", CPU, "system call", "current_cpu", ""),
    wanted("cpu", CPU, "glibc, static", "musl, hooks", ""),
    wanted("cpu", CPU, "musl, stock", "musl, hooks", ""),
    wanted("cpu", CPU, "vDSO", "musl, hooks", ""),
    wanted("cpu", CPU, "vDSO", "C interface", ""),
    wanted("ops", "add", "per-CPU", "plain", "at most 1.5"),
    wanted("ops", "add", "per-CPU", "plain, by pointer", ""),
    wanted("ops", "add", "atomic", "per-CPU", "at least 2"),
    wanted("ops", "add", "per-CPU atomic, getcpu", "per-CPU", ""),
    wanted(
        "structures",
        "Counter::add",
        "per-CPU",
        "plain",
        "at most 1.5",
    ),
    wanted(
        "structures",
        "Counter::add",
        "atomic",
        "per-CPU",
        "at least 2",
    ),
    wanted("contended", ALL, "shared atomic", "Counter", "at least 10"),
    wanted("contended", ALL, "per-CPU atomic, getcpu", "Counter", ""),
    wanted("contended", POOL, "mutex", "per-CPU", ""),
    wanted("contended", POOL, "atomic", "per-CPU", ""),
    wanted("hooks", "clone+exit", "keep", "bare", ""),
    wanted("hooks", "clone+exit", "release", "bare", ""),
    wanted("threads", "create+join", "musl, hooks", "musl, stock", ""),
    wanted("threads", "create+detach", "musl, hooks", "musl, stock", ""),
    wanted("threads", "create+join", "musl, hooks", "glibc, static", ""),
    wanted(
        "threads",
        "create+detach",
        "musl, hooks",
        "glibc, static",
        "",
    ),
    wanted(
        "threads",
        "create+join",
        "glibc, static",
        "glibc, static, rseq off",
        "",
    ),
    wanted("green", GREEN, "mutex", "percpu", "at least 2"),
    wanted("green", GREEN, "mpmc", "percpu", "at least 1"),
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

/// One of those that are taken of every operation.
#[derive(Clone, Debug, Serialize)]
pub struct OfOperation {
    /// The operation.
    pub operation: &'static str,
    /// How many threads were at it, if it is a row of several.
    pub threads: Option<usize>,
    /// The variant whose time is divided.
    pub of: &'static str,
    /// The variant that it is divided by.
    pub over: &'static str,
    /// Over the rounds.
    #[serde(flatten)]
    pub summary: Summary,
}

impl OfOperation {
    /// In how many threads.
    pub fn how(&self) -> String {
        self.threads
            .map_or_else(|| "alone".to_owned(), |n| format!("threads: {n}"))
    }
}

/// Those that the rows allow.
pub fn all(rows: &[Samples], cpus: usize) -> Vec<Ratio> {
    let threads = a_cpu_for_each(cpus);
    let one = |wanted: &Wanted| {
        let find = |variant| find(rows, (wanted.group, wanted.name, variant), threads);
        let (of, over) = (find(wanted.of)?, find(wanted.over)?);
        Some(Ratio {
            of: format!("{}: {}", of.name, of.variant),
            over: format!("{}: {}", over.name, over.variant),
            aim: wanted.aim,
            summary: within(of, over)?,
        })
    };
    RATIOS.iter().filter_map(one).collect()
}

/// Those of the operations.
pub fn of_operations(rows: &[Samples], cpus: usize) -> Vec<OfOperation> {
    let most = a_cpu_for_each(cpus);
    let one = |operation: &'static str,
               (together, of, over): (bool, &'static str, &'static str)| {
        let (group, name, threads) = if together {
            (
                "contended",
                format!("{operation}{THREADS}{{cpus}}"),
                Some(most),
            )
        } else {
            ("ops", operation.to_owned(), None)
        };
        let find = |variant| find(rows, (group, &name, variant), most);
        Some(OfOperation {
            operation,
            threads,
            of,
            over,
            summary: within(find(of)?, find(over)?)?,
        })
    };
    let both = OPERATIONS
        .iter()
        .flat_map(|name| OF_OPERATIONS.map(|kind| (*name, kind)));
    both.filter_map(|(name, kind)| one(name, kind)).collect()
}

/// The greatest measured number of threads that has a CPU for each.
fn a_cpu_for_each(cpus: usize) -> usize {
    [8, 4, 2, 1].into_iter().find(|&n| n <= cpus).unwrap_or(1)
}

fn find<'a>(
    rows: &'a [Samples],
    (group, name, variant): (&str, &str, &str),
    threads: usize,
) -> Option<&'a Samples> {
    let name = name.replace("{cpus}", &threads.to_string());
    rows.iter()
        .find(|row| row.group == group && row.name == name && row.variant == variant)
}

/// The ratio of two rows, round by round.
pub fn within(of: &Samples, over: &Samples) -> Option<Summary> {
    let both = of.values.iter().zip(&over.values);
    Summary::of(both.filter_map(|(of, over)| Some((*of)? / (*over)?)))
}
