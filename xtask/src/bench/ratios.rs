//! The ratios: another implementation's time over ours, within each round.

use serde::Serialize;

use super::plan::{OPERATIONS, THREADS};
use super::rounds::Samples;
use super::stats::Summary;

/// Two variants of a row, and the ratio that the project aims at; it is reported, not asserted.
type Wanted = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Option<f64>,
);

const CPU: &str = "CPU number";
/// `{cpus}` is the largest measured number of threads that does not exceed the number of CPUs.
const ADD: &str = "add, threads: {cpus}";
const POOL: &str = "pool pop+push, threads: {cpus}";
const SWITCH: &str = "switch, carriers: {cpus}";
const GETCPU: &str = "per-CPU atomic, getcpu";
const COPY: &str = OPERATIONS[7];

/// At most 10 % slower.
const TENTH: Option<f64> = Some(1.0 / 1.1);

/// Group, row, other variant, our variant.
#[rustfmt::skip] // a table
const WANTED: [Wanted; 53] = [
    ("cpu", CPU, "vDSO", "load", Some(10.0)),
    ("cpu", CPU, "vDSO", "current_cpu", None),
    ("cpu", CPU, "glibc, rseq off", "current_cpu", None),
    ("cpu", CPU, "system call", "current_cpu", None),
    ("cpu", CPU, "vDSO", "C interface", None),
    ("cpu", CPU, "vDSO", "musl, hooks", None),
    ("cpu", CPU, "glibc, static", "musl, hooks", None),
    ("cpu", CPU, "musl, stock", "musl, hooks", None),
    ("hooks", "clone+exit", "bare", "keep", None),
    ("hooks", "clone+exit", "bare", "release", None),
    ("threads", "create+join", "musl, stock", "musl, hooks", None),
    ("threads", "create+join", "glibc, static", "musl, hooks", None),
    ("threads", "create+join", "glibc, static, rseq off", "glibc, static", None),
    ("threads", "create+detach", "musl, stock", "musl, hooks", None),
    ("threads", "create+detach", "glibc, static", "musl, hooks", None),
    ("ops", "add", "plain, by pointer", "per-CPU", None),
    // Bounded by the CPU's store-to-load forwarding: no aim.
    ("ops", "add", "plain", "per-CPU", None),
    ("ops", "add", "atomic", "per-CPU", Some(2.0)),
    ("ops", "add, one word", "plain", "per-CPU", TENTH),
    ("ops", "add, one word", "plain", "Counter", TENTH),
    ("ops", "add, chain", "plain", "per-CPU", TENTH),
    ("ops", "add, throughput", "plain", "per-CPU", Some(0.5)),
    ("ops", "add, throughput", "plain + cycles", "per-CPU", Some(1.0)),
    ("ops", "add, throughput", "per-CPU", "per-CPU, fetched", None),
    ("ops", COPY, "copy, then section", "per-CPU", TENTH),
    ("ops", COPY, "copy, then section", "per-CPU, release", TENTH),
    ("structures", "Counter::add", "plain", "per-CPU", None),
    ("structures", "Counter::add", "atomic", "per-CPU", Some(2.0)),
    ("contended", ADD, "shared atomic", "Counter", Some(10.0)),
    ("contended", ADD, GETCPU, "Counter", None),
    ("contended", POOL, "mutex", "per-CPU", None),
    ("contended", POOL, "atomic", "per-CPU", None),
    ("green", SWITCH, "mutex", "percpu", Some(2.0)),
    ("green", SWITCH, "mpmc", "percpu", Some(1.0)),
    ("malloc", "alone", "musl, stock", "musl, per CPU", Some(0.95)),
    ("malloc", "own, threads: 1", "musl, stock", "musl, per CPU", Some(1.0)),
    ("malloc", "own, threads: 2", "musl, stock", "musl, per CPU", Some(3.0)),
    ("malloc", "own, threads: 2", "glibc", "musl, per CPU", Some(1.0)),
    ("malloc", "own, threads: 2", "jemalloc", "musl, per CPU", Some(0.77)),
    ("malloc", "own, threads: 2", "mimalloc", "musl, per CPU", Some(0.77)),
    ("malloc", "own, threads: 2", "tcmalloc", "musl, per CPU", Some(0.77)),
    ("malloc", "pair, threads: 2", "musl, stock", "musl, per CPU", Some(3.0)),
    ("malloc", "pair, threads: 2", "glibc", "musl, per CPU", Some(1.0)),
    ("malloc", "pair, threads: 2", "jemalloc", "musl, per CPU", Some(0.77)),
    ("malloc", "pair, threads: 2", "mimalloc", "musl, per CPU", Some(0.77)),
    ("malloc", "pair, threads: 2", "tcmalloc", "musl, per CPU", Some(0.77)),
    ("malloc", "larson, threads: 2", "musl, stock", "musl, per CPU", Some(3.0)),
    ("malloc", "larson, threads: 2", "glibc", "musl, per CPU", Some(1.0)),
    ("malloc", "larson, threads: 2", "jemalloc", "musl, per CPU", Some(0.77)),
    ("malloc", "larson, threads: 2", "mimalloc", "musl, per CPU", Some(0.77)),
    ("malloc", "larson, threads: 2", "tcmalloc", "musl, per CPU", Some(0.77)),
    ("malloc", "larson, threads: 8", "musl, stock", "musl, per CPU", None),
    ("malloc", "peak, phases, threads: 2", "musl, stock", "musl, per CPU", Some(0.77)),
];

/// The ratios of every operation: whether from the rows of `{cpus}` threads, other variant, our variant.
pub const OF_OPERATIONS: [(bool, &str, &str); 8] = [
    (false, "plain", "per-CPU"),
    (false, "atomic", "per-CPU"),
    (false, GETCPU, "per-CPU"),
    (false, "per-CPU", "per-CPU, release"),
    (false, "per-CPU", "per-CPU, mm_cid"),
    (true, "plain", "per-CPU, fetched"),
    (true, "shared atomic", "per-CPU, fetched"),
    (true, GETCPU, "per-CPU, fetched"),
];

#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    pub group: &'static str,
    pub name: String,
    pub other: &'static str,
    pub ours: &'static str,
    pub at_least: Option<f64>,
    #[serde(flatten)]
    pub summary: Summary,
}

/// The verdict of a ratio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Faster in three quarters of the rounds.
    Ahead,
    /// Neither ahead nor behind.
    Level,
    /// Slower in three quarters of the rounds.
    Behind,
}

impl Ratio {
    /// The verdict, with a tolerance of 5 %.
    pub fn standing(&self) -> Standing {
        match self.summary {
            Summary { p25, .. } if p25 > 1.05 => Standing::Ahead,
            Summary { p75, .. } if p75 < 0.95 => Standing::Behind,
            _ => Standing::Level,
        }
    }

    /// Whether the ratio misses its aim.
    pub fn misses(&self) -> bool {
        self.at_least
            .is_some_and(|least| self.summary.median < least)
    }

    /// Whether the ratio is one of [`OF_OPERATIONS`].
    pub fn is_of_operations(&self) -> bool {
        let same = |&(together, other, ours): &(bool, &str, &str)| {
            let group = if together { "contended" } else { "ops" };
            (self.group, self.other, self.ours) == (group, other, ours)
        };
        OPERATIONS.contains(&self.operation()) && OF_OPERATIONS.iter().any(same)
    }

    /// The row without its number of threads.
    pub fn operation(&self) -> &str {
        self.name
            .split_once(THREADS)
            .map_or(self.name.as_str(), |(operation, _)| operation)
    }
}

/// All ratios for which there are rows, in the order of the rows.
pub fn all(rows: &[Samples], cpus: usize) -> Vec<Ratio> {
    let threads = [8, 4, 2, 1].into_iter().find(|&n| n <= cpus).unwrap_or(1);
    let threads = threads.to_string();
    let one = |group, name: &str, other, ours, at_least| {
        let name = name.replace("{cpus}", &threads);
        let find = |variant: &str| {
            let is_it =
                |row: &&Samples| row.group == group && row.name == name && row.variant == variant;
            rows.iter().find(is_it)
        };
        let summary = within(find(other)?, find(ours)?)?;
        Some(Ratio {
            group,
            name,
            other,
            ours,
            at_least,
            summary,
        })
    };
    let mut ratios: Vec<Ratio> = WANTED
        .iter()
        .filter_map(|&(group, name, other, ours, wanted)| one(group, name, other, ours, wanted))
        .collect();
    for operation in OPERATIONS {
        let of_it = OF_OPERATIONS
            .iter()
            .filter_map(|&(together, other, ours)| match together {
                false => one("ops", operation, other, ours, None),
                true => {
                    let name = format!("{operation}{THREADS}{{cpus}}");
                    one("contended", &name, other, ours, None)
                }
            });
        for ratio in of_it {
            let same = |one: &Ratio| {
                one.name == ratio.name && one.other == ratio.other && one.ours == ratio.ours
            };
            if !ratios.iter().any(same) {
                ratios.push(ratio);
            }
        }
    }
    let place = |ratio: &Ratio| {
        let is_it = |row: &Samples| row.group == ratio.group && row.name == ratio.name;
        rows.iter().position(is_it)
    };
    ratios.sort_by_key(place);
    ratios
}

/// The ratio of two rows, round by round.
pub fn within(of: &Samples, over: &Samples) -> Option<Summary> {
    let both = of.values.iter().zip(&over.values);
    Summary::of(both.filter_map(|(of, over)| Some((*of)? / (*over)?)))
}
