//! The machine that the numbers were taken on.

use serde::Serialize;
use serde_json::Value;

use super::program::Program;
use crate::process;

/// The machine, its kernel and the mode of rseq.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub arch: &'static str,
    /// CPUs that this process may use.
    pub cpus: usize,
    pub kernel: String,
    /// `legacy length 32`, or `v2` and the length.
    pub mode: String,
    /// The rseq facts of the Rust program: owner, length, feature size, whether sections are allowed.
    pub rseq: Value,
    /// Mean number of runnable tasks in the minute before the first round.
    pub load_before: f64,
    /// The same before the end of the last round.
    pub load_after: f64,
}

impl Machine {
    pub fn look() -> Machine {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Machine {
            cpu: cpu_name(),
            arch: std::env::consts::ARCH,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: release.trim().to_owned(),
            mode: "unknown".to_owned(),
            rseq: Value::Null,
            load_before: load(),
            load_after: 0.0,
        }
    }

    pub fn after(mut self, programs: &[Program]) -> Machine {
        self.load_after = load();
        if let Some(rust) = programs
            .iter()
            .find(|program| program.file.ends_with("release/bench"))
        {
            let mut facts = rust.clone();
            facts.arguments = vec!["facts".to_owned()];
            facts.libc_owns = false;
            let said = process::run(&mut facts.command(1), 20);
            let said = said.map(|said| said.output).unwrap_or_default();
            self.rseq = serde_json::from_str(said.trim()).unwrap_or(Value::Null);
            self.mode = mode(self.rseq["length"].as_u64());
        }
        self
    }

    pub fn line(&self) -> String {
        format!(
            "{} ({}, {} CPUs), Linux {}, rseq: {}, load {:.2} before and {:.2} after",
            self.cpu,
            self.arch,
            self.cpus,
            self.kernel,
            self.mode,
            self.load_before,
            self.load_after
        )
    }
}

fn mode(length: Option<u64>) -> String {
    match length {
        Some(32) => "legacy length 32".to_owned(),
        Some(0) => "none".to_owned(),
        Some(length) => format!("v2, length {length}"),
        None => "unknown".to_owned(),
    }
}

fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_whitespace().next();
    first
        .and_then(|first| first.parse().ok())
        .unwrap_or_default()
}

fn cpu_name() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    // The key differs by CPU.
    let keys = ["model name", "uarch", "CPU part", "isa"];
    let name = keys.into_iter().find_map(named);
    let name = name.unwrap_or_else(|| "unknown CPU".to_owned());
    // The model name of a virtual machine is often no more than the series.
    match (named("cpu family"), named("model\t")) {
        (Some(family), Some(model)) => format!("{name}, family {family} model {model}"),
        _ => name,
    }
}
