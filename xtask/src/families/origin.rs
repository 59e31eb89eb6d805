//! The embedding into origin, a runtime without libc: natively, under qemu-user, and as PID 1 on the newest kernel.

use std::path::PathBuf;

use anyhow::Result;
use nix::sys::signal::Signal::SIGSEGV;

use crate::arch::Arch;
use crate::case::{Case, Family};
use crate::cell::At;
use crate::compiler::{self, ALLOC, check_form};
use crate::context::Context;
use crate::guests::guest_needs;
use crate::machine::boot;
use crate::machine::place::{Machine, Place};
use crate::outcome::Failure;
use crate::process::Finished;

pub const FAMILY: Family = Family {
    name: "origin",
    cases,
    needs: guest_needs,
};

const MANIFEST: &str = "examples/origin/Cargo.toml";
const FOLDER: &str = "target/embed/origin";

fn cases(_: &Context, at: At) -> Result<Vec<Case>> {
    let At::Place(place) = at else {
        return Ok(vec![]);
    };
    if place.boots() && !place.is_newest() {
        return Ok(vec![]);
    }
    let mut cases = Vec::new();
    if place.machine == Machine::Native {
        cases.push(Case::new("form", |cx| {
            check_form(cx, MANIFEST, &cx.root.join(FOLDER))
        }));
    }
    cases.push(Case::new("embedded", move |cx| {
        embedded(run(cx, place, "embedded")?)
    }));
    if place.machine == Machine::Native {
        cases.push(Case::new("without-release", move |cx| {
            // It unmaps the memory of a registered thread.
            run(cx, place, "broken")?.check_death(SIGSEGV)
        }));
    }
    Ok(cases)
}

/// Runs as many rounds as the place manages in a second or two.
fn run(cx: &Context, place: Place, kind: &str) -> Result<Finished> {
    let rounds = match place.machine {
        Machine::Native => "500",
        Machine::User => "4",
        Machine::Listed(_) | Machine::Given(_) => "20",
    };
    let arguments = [place.demo_arguments(), &["--rounds", rounds]].concat();
    let program = build(cx, place.arch, kind)?;
    Ok(boot::run(cx, place, &program, &[], &arguments)?.finished)
}

/// A booted machine has no exit code: the last line is the verdict, natively too.
fn embedded(finished: Finished) -> Result<String> {
    let line = |is: fn(&str) -> bool| {
        let mut lines = finished.output.lines().map(str::trim);
        lines.find(|line| is(line)).map(str::to_owned)
    };
    if finished.ok() && line(|line| line == "passed").is_some() {
        let counts = line(|line| line.starts_with("threads "));
        return Ok(counts.unwrap_or_default());
    }
    let why = line(|line| line.starts_with("failed: "));
    let why = why.unwrap_or_else(|| finished.end.to_string());
    Err(Failure::error(why, finished.output))
}

/// Builds it for `arch`, `embedded` or `broken`. Its build script makes it static and freestanding.
fn build(cx: &Context, arch: Arch, kind: &str) -> Result<PathBuf> {
    cx.once(format!("origin/{kind}/{arch}"), || {
        let folder = cx.root.join(FOLDER);
        let mut build = compiler::find(cx, arch)?.cargo("build", ALLOC, arch.target());
        build
            .args(["--quiet", "--manifest-path", MANIFEST, "--target-dir"])
            .arg(&folder);
        if kind == "broken" {
            build.args(["--features", "without-release"]);
        }
        compiler::build(cx, arch, build, "the embedding")?;
        let made = folder.join(arch.target()).join("release/origin-embedding");
        // Under its own name: the next build of the other kind replaces the first.
        let kept = made.with_file_name(kind);
        std::fs::copy(made, &kept)?;
        Ok(kept)
    })
}
