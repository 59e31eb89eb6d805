//! The green-thread runtime: its tests, and its word count against find and wc.

mod words;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::arch::Arch;
use crate::case::{Case, Family, Judged};
use crate::cell::{At, keep_console};
use crate::compiler::check_form;
use crate::console;
use crate::context::Context;
use crate::guests::{GREEN, GREEN_TESTS, green, green_tests, guest_needs, names};
use crate::machine::boot;
use crate::machine::place::{Machine, Place};

pub const FAMILY: Family = Family {
    name: "green",
    cases,
    needs: |cx, at| {
        let mut needs = guest_needs(cx, at);
        needs.extend(words::needs());
        needs
    },
};

fn cases(cx: &Context, at: At) -> Result<Vec<Case>> {
    let At::Place(place) = at else {
        return Ok(vec![]);
    };
    // Natively, under qemu-user, and on the newest kernel: older kernels show nothing more.
    let here = match place.machine {
        Machine::Native => true,
        Machine::User => Arch::host() != Some(place.arch),
        Machine::Listed(_) | Machine::Given(_) => place.is_newest(),
    };
    if !here {
        return Ok(vec![]);
    }
    let names = names(cx, green_tests, &["test", "--list"])?;
    let mut cases = Case::together(names, move |cx, tests| own_tests(cx, place, tests));
    for &test in words::tests(place) {
        cases.push(Case::new(test, move |cx| words::count(cx, place, test)));
    }
    if !place.boots() {
        cases.push(Case::new("bench_lines", move |cx| bench_lines(cx, place)));
    }
    if place.machine == Machine::Native {
        cases.push(Case::new("form", |cx| {
            let target = cx.root.join("target/guests/form");
            check_form(cx, GREEN, &target)?;
            check_form(cx, GREEN_TESTS, &target)
        }));
    }
    Ok(cases)
}

/// Runs the whole suite: it is short.
fn own_tests(cx: &Context, place: Place, tests: &[String]) -> Result<Vec<Judged>> {
    let program = green_tests(cx, place.arch)?;
    let arguments = ["test", "--scale", place.scale()];
    let run = boot::run(cx, place, &program, &[], &arguments)?.finished;
    keep_console(cx, "green", place, &run.output);
    let judged = console::judge(&run.output, tests, run.end, !place.boots());
    let mut tests_run = judged.tests;
    tests_run.retain(|(test, _)| tests.contains(test) || test == "ending");
    Ok(Judged::all(tests_run, &run.output))
}

/// The format that `cargo xtask bench` reads: one object per line, with name and time.
fn bench_lines(cx: &Context, place: Place) -> Result<String> {
    let short = ["bench", "--switches", "20", "--repeats", "1"];
    let program = green(cx, place.arch)?;
    let run = boot::run(cx, place, &program, &[], &short)?.finished;
    let said = run.check("bench")?;
    let lines: Vec<&str> = said.lines().collect();
    for line in &lines {
        ensure!(is_measurement(line), "no measurement: {line}");
    }
    ensure!(lines.len() >= 3, "not a line for each queue");
    Ok(format!("{} lines", lines.len()))
}

fn is_measurement(line: &str) -> bool {
    let object: Value = serde_json::from_str(line).unwrap_or_default();
    object["name"].is_string() && object["ns"].as_f64().is_some_and(|ns| ns > 0.0)
}
