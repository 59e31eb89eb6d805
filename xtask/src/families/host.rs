//! What is tested without a guest: form, lints, unit tests, Miri, the oldest
//! compiler, and the contents of the package.

use std::process::Command;
use std::time::Duration;

use super::{Family, Job, Selection};
use crate::cargo::{cargo, finish};
use crate::install::Need;
use crate::lab::Lab;
use crate::outcome::{Cell, Outcome, Verdict};
use crate::process::{self, command};
use crate::testlog;

/// The family.
pub struct Host;

const NAME: &str = "host";

/// A check: its name, and what it does.
type Check = (&'static str, fn(&Lab) -> Vec<Outcome>);

/// The checks. Another one is another line.
const CHECKS: [Check; 6] = [
    ("fmt", fmt),
    ("clippy", clippy),
    ("test", test),
    ("miri", miri),
    ("msrv", msrv),
    ("package", package),
];

impl Family for Host {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self, _: &Lab, _: &Selection) -> Vec<Need> {
        vec![]
    }

    fn list(&self, _: &Lab, selection: &Selection) -> Vec<(Cell, String)> {
        // They belong to no CPU and no kernel: a choice of those leaves them out.
        let everywhere = selection.arches.is_empty() && selection.wants_kernel_free();
        let wanted = CHECKS
            .into_iter()
            .filter(|(check, _)| everywhere && selection.wants(NAME, check));
        wanted
            .map(|(check, _)| (cell(), check.to_owned()))
            .collect()
    }

    fn jobs<'lab>(&self, lab: &'lab Lab, selection: &Selection) -> Vec<Job<'lab>> {
        let listed = self.list(lab, selection);
        let wanted = CHECKS
            .into_iter()
            .filter(|(check, _)| listed.iter().any(|(_, test)| test == check));
        wanted
            .map(|(check, run)| Job::alone(format!("host {check}"), move || run(lab)))
            .collect()
    }
}

fn cell() -> Cell {
    Cell {
        order: 0,
        label: "host".to_owned(),
    }
}

/// A check that is one command: its exit code is the verdict.
fn one(name: &str, probe: Command, command: Command) -> Vec<Outcome> {
    match finish(probe) {
        Ok(probe) if probe.ok() => {}
        Ok(probe) => {
            return vec![Outcome::new(
                &cell(),
                NAME,
                name,
                Verdict::Missing(probe.tail(1)),
            )];
        }
        Err(why) => return vec![Outcome::new(&cell(), NAME, name, Verdict::Missing(why))],
    }
    let outcome = match finish(command) {
        Err(why) => Outcome::new(&cell(), NAME, name, Verdict::Missing(why)),
        Ok(finished) => {
            let verdict = if finished.ok() {
                Verdict::Passed(String::new())
            } else {
                Verdict::Failed(finished.end.to_string())
            };
            Outcome::new(&cell(), NAME, name, verdict)
                .with_console(&finished.output)
                .took(finished.elapsed)
        }
    };
    vec![outcome]
}

fn fmt(lab: &Lab) -> Vec<Outcome> {
    one(
        "fmt",
        cargo(lab, None, &["fmt", "--version"]),
        cargo(
            lab,
            None,
            &["fmt", "--all", "--check", "--", "--color=never"],
        ),
    )
}

fn clippy(lab: &Lab) -> Vec<Outcome> {
    let check = [
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--features=rseq-rt-capi/trio",
        "--",
        "-Dwarnings",
    ];
    one(
        "clippy",
        cargo(lab, None, &["clippy", "--version"]),
        cargo(lab, None, &check),
    )
}

/// Unit, integration and documentation tests, each counted.
fn test(lab: &Lab) -> Vec<Outcome> {
    counted(
        "test",
        cargo(
            lab,
            None,
            &["test", "--package", "rseq-rt", "--no-fail-fast"],
        ),
    )
}

/// The same under Miri: with a toolchain that has it, or to which rustup can add it.
fn miri(lab: &Lab) -> Vec<Outcome> {
    let has = |toolchain: Option<&str>| {
        finish(cargo(lab, toolchain, &["miri", "--version"])).is_ok_and(|asked| asked.ok())
    };
    let toolchain = [None, Some("nightly")]
        .into_iter()
        .find(|&toolchain| has(toolchain))
        .or_else(|| (add_miri(lab) && has(Some("nightly"))).then_some(Some("nightly")));
    let Some(toolchain) = toolchain else {
        let why = "no toolchain of this machine has Miri".to_owned();
        return vec![Outcome::new(&cell(), NAME, "miri", Verdict::Skipped(why))];
    };
    // Miri runs no inline assembly: what needs a real kernel is marked so in the tests.
    // An example of the documentation can carry no such mark, and makes real syscalls.
    let arguments = [
        "miri",
        "test",
        "--package",
        "rseq-rt",
        "--lib",
        "--tests",
        "--target-dir",
        "target/miri",
    ];
    let mut command = cargo(lab, toolchain, &arguments);
    // Links of lists are addresses, as critical sections know them.
    command.env("MIRIFLAGS", "-Zmiri-permissive-provenance");
    counted("miri", command)
}

/// `rustup component add miri`, for a nightly that is here already. It fails fast where rustup can reach nothing.
fn add_miri(lab: &Lab) -> bool {
    if !lab.install {
        return false;
    }
    let _step = lab
        .progress
        .step("rustup component add miri rust-src, for the tests under Miri".to_owned());
    let mut add = command("rustup");
    add.args(["component", "add", "--toolchain", "nightly"]);
    add.args(["miri", "rust-src"]);
    finish(add).is_ok_and(|added| added.ok())
}

/// Runs a `cargo test` and gives each test an outcome of its own.
fn counted(name: &str, command: Command) -> Vec<Outcome> {
    let finished = match finish(command) {
        Ok(finished) => finished,
        Err(why) => return vec![Outcome::new(&cell(), NAME, name, Verdict::Missing(why))],
    };
    let mut outcomes: Vec<Outcome> = testlog::parse(&finished.output)
        .into_iter()
        .map(|(test, verdict)| {
            Outcome::new(&cell(), NAME, format!("{name}::{test}"), verdict)
                .with_console(&finished.output)
        })
        .collect();
    let failed = outcomes
        .iter()
        .any(|outcome| matches!(outcome.verdict, Verdict::Failed(_)));
    if !finished.ok() && !failed {
        let verdict = Verdict::Failed(finished.end.to_string());
        outcomes.push(Outcome::new(&cell(), NAME, name, verdict).with_console(&finished.output));
    } else if outcomes.is_empty() {
        outcomes.push(Outcome::new(
            &cell(),
            NAME,
            name,
            Verdict::Skipped("there is no test yet".to_owned()),
        ));
    }
    outcomes
}

/// The library with the oldest compiler it promises.
fn msrv(lab: &Lab) -> Vec<Outcome> {
    let outcome = |verdict| vec![Outcome::new(&cell(), NAME, "msrv", verdict)];
    let manifest = std::fs::read_to_string(lab.root.join("Cargo.toml")).unwrap_or_default();
    let promised = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .map(|text| text.trim_matches('"'));
    let Some(promised) = promised else {
        return outcome(Verdict::Failed(
            "Cargo.toml states no rust-version".to_owned(),
        ));
    };
    // The promised release itself, under its own name or another's.
    let mut current = command("rustc");
    current.arg("--version");
    let is_promised = |text: &str| {
        text.strip_prefix(promised)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let current = process::run(&mut current, Duration::from_secs(60))
        .map(|asked| asked.output)
        .unwrap_or_default();
    let mut list = command("rustup");
    list.args(["toolchain", "list"]);
    let toolchains = process::run(&mut list, Duration::from_secs(60))
        .map(|asked| asked.output)
        .unwrap_or_default();
    let toolchain = toolchains
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .find(|name| is_promised(name));
    if toolchain.is_none() && !is_promised(current.trim_start_matches("rustc ")) {
        return outcome(Verdict::Skipped(format!(
            "no toolchain of this machine is Rust {promised}"
        )));
    }
    let build = cargo(
        lab,
        toolchain,
        &[
            "build",
            "--package",
            "rseq-rt",
            "--target-dir",
            "target/msrv",
        ],
    );
    one("msrv", cargo(lab, toolchain, &["--version"]), build)
}

/// `arch/` and `linker/` are in the package: Cargo drops what is not listed.
fn package(lab: &Lab) -> Vec<Outcome> {
    let listed = match finish(cargo(
        lab,
        None,
        &["package", "--package", "rseq-rt", "--list", "--allow-dirty"],
    )) {
        Ok(listed) => listed,
        Err(why) => {
            return vec![Outcome::new(
                &cell(),
                NAME,
                "package",
                Verdict::Missing(why),
            )];
        }
    };
    let wanted = [
        "src/",
        "arch/",
        "linker/",
        "README.md",
        "COPYRIGHT",
        "LICENSE-",
    ];
    let missing: Vec<&str> = wanted
        .into_iter()
        .filter(|start| !listed.output.lines().any(|file| file.starts_with(start)))
        .collect();
    let verdict = match (listed.ok(), missing.is_empty()) {
        (true, true) => Verdict::Passed(format!("{} files", listed.output.lines().count())),
        (true, false) => Verdict::Failed(format!("not in the package: {}", missing.join(", "))),
        (false, _) => Verdict::Failed(listed.end.to_string()),
    };
    vec![Outcome::new(&cell(), NAME, "package", verdict).with_console(&listed.output)]
}
