//! Tests without a guest: formatting, lints, unit tests, Miri, the oldest compiler, packages, public interfaces,
//! licences, the example, and targets without rseq.

mod api;
mod example;
mod licences;
mod package;
mod targets;

use std::process::Command;

use anyhow::{Result, ensure};

use crate::case::{Case, Family, Judged};
use crate::cell::At;
use crate::compiler::{cargo, finish, has_tool, promised, with_miri};
use crate::context::Context;
use crate::outcome::{Failure, Outcome};

pub const FAMILY: Family = Family {
    name: "host",
    cases,
    needs: |_, _| vec![],
};

fn cases(_: &Context, at: At) -> Result<Vec<Case>> {
    if at != At::Host {
        return Ok(vec![]);
    }
    let mut cases = vec![
        Case::new("fmt", |cx| {
            checked(cx, &["fmt", "--all", "--check", "--", "--color=never"])
        }),
        Case::new("clippy", |cx| {
            let scope = ["--quiet", "--workspace", "--all-targets"];
            let rest = ["--features=rseq-rt-capi/trio", "--", "-Dwarnings"];
            checked(cx, &[&["clippy"][..], &scope, &rest].concat())
        }),
    ];
    // The library's tests, and those of this tool.
    for (name, package) in [("test", "rseq-rt"), ("xtask", "xtask")] {
        cases.extend(Case::together([name.to_owned()], move |cx, _| {
            let arguments = ["test", "--package", package, "--no-fail-fast"];
            counted(name, cargo(cx, None, &arguments))
        }));
    }
    cases.extend(Case::together(["miri".to_owned()], |cx, _| miri(cx)));
    cases.push(Case::new("msrv", msrv));
    cases.extend(package::cases());
    cases.extend(api::cases());
    cases.extend(licences::cases());
    cases.extend(example::cases());
    cases.extend(targets::cases());
    let titled = |case: Case| {
        let title = format!("host {}", case.name);
        case.in_job(title)
    };
    Ok(cases.into_iter().map(titled).collect())
}

/// A check by one command, whose exit code is the verdict.
fn checked(cx: &Context, arguments: &[&str]) -> Result<()> {
    has_tool(cx, None, arguments[0])?;
    finish(cargo(cx, None, arguments))?.check(arguments[0])?;
    Ok(())
}

/// The tests of the library under Miri.
fn miri(cx: &Context) -> Result<Vec<Judged>> {
    // Miri runs no inline assembly: what needs a real kernel is marked so in the tests.
    // An example of the documentation can carry no such mark, and makes real syscalls.
    let scope = ["miri", "test", "--package", "rseq-rt", "--lib", "--tests"];
    let mut command = cargo(cx, with_miri(cx)?, &scope);
    command.args(["--target-dir", "target/miri"]);
    // List links are integer addresses, as critical sections use them.
    command.env("MIRIFLAGS", "-Zmiri-permissive-provenance");
    counted("miri", command)
}

/// Runs a `cargo test` and gives each test an outcome of its own.
fn counted(name: &str, command: Command) -> Result<Vec<Judged>> {
    let finished = finish(command)?;
    let tests = tests_of(&finished.output);
    let failed = |(_, outcome): &(String, Outcome)| matches!(outcome, Outcome::Failed(_));
    if !finished.ok() && !tests.iter().any(failed) {
        return Err(Failure::error(finished.end.to_string(), finished.output));
    }
    ensure!(!tests.is_empty(), "it ran no test");
    let named = |(test, outcome)| (format!("{name}::{test}"), outcome);
    let tests = tests.into_iter().map(named).collect();
    Ok(Judged::all(tests, &finished.output))
}

/// The tests in a log of `cargo test`: `program::test` and the outcome of each.
fn tests_of(log: &str) -> Vec<(String, Outcome)> {
    let mut program = String::new();
    let mut tests = Vec::new();
    for line in log.lines().map(str::trim) {
        if let Some(running) = line.strip_prefix("Running ") {
            // `unittests src/lib.rs (target/...)` is `lib`, `tests/model.rs (...)` is `model`.
            let path = running.trim_start_matches("unittests ").split(" (").next();
            let file = path.and_then(|path| path.rsplit('/').next());
            program = file.unwrap_or(running).trim_end_matches(".rs").to_owned();
        } else if line.starts_with("Doc-tests ") {
            program = "doc".to_owned();
        } else if let Some(test) = line.strip_prefix("test ")
            && let Some((name, result)) = test.rsplit_once(" ... ")
        {
            // `test src/lib.rs - name (line 7) - compile fail ... ok`
            let outcome = match result.split([',', ' ']).next().unwrap_or_default() {
                "ok" => Outcome::passed(),
                "ignored" => {
                    let why = result.trim_start_matches("ignored");
                    Outcome::Skipped(format!("it is marked as ignored{why}"))
                }
                _ => Outcome::Failed(result.to_owned()),
            };
            let name = name.trim_end_matches(" - should panic");
            tests.push((format!("{program}::{name}"), outcome));
        }
    }
    tests
}

/// The library with the oldest compiler it promises.
fn msrv(cx: &Context) -> Result<()> {
    let toolchain = promised(cx, "Cargo.toml")?;
    let arguments = ["build", "--package", "rseq-rt"];
    let mut build = cargo(cx, toolchain.as_deref(), &arguments);
    build.args(["--target-dir", "target/msrv"]);
    finish(build)?.check("build")?;
    Ok(())
}
