//! The measured programs, built as their users build them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::mallocs;
use super::plan::Plan;
use super::program::{Program, compile};
use crate::arch::Arch;
use crate::compiler::{cargo, finish};
use crate::context::Context;
use crate::guests::green;
use crate::musl::{self, Release, Variant};
use crate::staticlib::{self, Plan as Library};

/// A program that was not measured.
#[derive(Clone, Debug, Serialize)]
pub struct Skipped {
    pub group: String,
    pub variant: String,
    pub why: String,
}

/// The groups of the Rust program, the measuring time of their values, and whether glibc owns rseq.
const RUST: [(&str, u32, bool); 6] = [
    ("cpu", 1, false),
    ("hooks", 3, false),
    ("threads", 5, true),
    ("ops", 1, false),
    ("structures", 1, false),
    ("contended", 2, false),
];

/// The groups of a program under a libc.
const UNDER_LIBC: [(&str, u32); 2] = [("cpu", 1), ("threads", 5)];

/// The groups of the user's own programs.
const FOREIGN: [&str; 5] = ["cpu", "threads", "ops", "structures", "contended"];

/// All programs that `plan` wants.
pub fn build(cx: &Context, plan: &Plan) -> Result<(Vec<Program>, Vec<Skipped>)> {
    let mut programs = Vec::new();
    let mut skipped = Vec::new();
    if RUST.iter().any(|(group, ..)| plan.wants(group)) {
        let file = rust(cx)?;
        let own = |(group, weight, libc_owns)| one(group, weight, OURS, &file, libc_owns);
        programs.extend(RUST.map(own));
    }
    let mut add = |group: &str, variant: &str, made: Result<Vec<Program>>| match made {
        Ok(made) => programs.extend(made),
        Err(why) => skipped.push(Skipped {
            group: group.to_owned(),
            variant: variant.to_owned(),
            why: format!("{why:#}"),
        }),
    };
    if plan.wants("cpu") || plan.wants("threads") {
        let arch = Arch::host().context("this machine is none of the three CPUs")?;
        let interface =
            interface(cx, arch).map(|file| vec![one("cpu", 1, C_INTERFACE, &file, false)]);
        add("cpu", C_INTERFACE, interface);
        for (variant, libc_owns, file) in libcs(cx, plan, arch) {
            let both = file.map(|file| {
                let each = |(group, weight)| one(group, weight, variant, &file, libc_owns);
                UNDER_LIBC.map(each).into()
            });
            add("cpu, threads", variant, both);
        }
    }
    if plan.wants("green") {
        let program = green_threads(cx, plan);
        add("green", OURS, program.map(|program| vec![program]));
    }
    if plan.wants(mallocs::GROUP) {
        for (variant, program) in mallocs::programs(cx, plan) {
            add(
                mallocs::GROUP,
                variant,
                program.map(|program| vec![program]),
            );
        }
    }
    for (variant, file) in &plan.with {
        let all = FOREIGN.map(|group| one(group, 1, variant, file, true));
        programs.extend(all);
    }
    programs.retain(|program| plan.wants(program.group));
    Ok((programs, skipped))
}

/// The measuring program of the green threads, whose lines are named `green/QUEUE/CARRIERS`.
fn green_threads(cx: &Context, plan: &Plan) -> Result<Program> {
    let arch = Arch::host().context("this machine is none of the three CPUs")?;
    let mut program = one("green", 1, OURS, &green(cx, arch)?, false);
    // One turn takes some tens of nanoseconds; the number of turns is an argument.
    let switches = (u64::from(plan.milliseconds) * 200).to_string();
    let words = ["bench", "--repeats", "1", "--switches", &switches];
    program.arguments = words.map(str::to_owned).to_vec();
    Ok(program)
}

fn one(group: &'static str, weight: u32, variant: &str, file: &Path, libc_owns: bool) -> Program {
    Program {
        group,
        variant: variant.to_owned(),
        weight,
        file: file.to_owned(),
        arguments: vec![group.to_owned()],
        libc_owns,
        preload: None,
    }
}

fn rust(cx: &Context) -> Result<PathBuf> {
    let _step = cx.step("building the programs to measure");
    let target = cx.root.join("target/bench-build");
    let mut build = cargo(cx, None, &["build", "--release", "--package", "bench"]);
    build.arg("--target-dir").arg(&target);
    finish(build)?.check("the program does not build")?;
    Ok(target.join("release/bench"))
}

/// The variant of our own program, whose lines carry more detail.
const OURS: &str = "rseq-rt";

const C_INTERFACE: &str = "C interface";

/// A program under a libc: variant, whether its glibc may register, file.
type Made = (&'static str, bool, Result<PathBuf>);

fn libcs(cx: &Context, plan: &Plan, arch: Arch) -> Vec<Made> {
    let gcc = Path::new("gcc");
    let glibc = || compile(cx, gcc, "libc.c", "glibc", &["-static"]);
    let mut made = vec![
        ("glibc, static", true, glibc()),
        ("glibc, static, rseq off", false, glibc()),
    ];
    let musls = [
        ("musl, stock", Variant::Stock),
        ("musl, hooks", Variant::Hooked),
    ];
    for (variant, musl) in musls.into_iter().filter(|_| plan.musl) {
        let built = musl::built(cx, Release::default(), arch, musl).and_then(|root| {
            let gcc = root.join("bin/musl-gcc");
            compile(cx, &gcc, "libc.c", musl.name(), &["-static"])
        });
        made.push((variant, false, built));
    }
    made
}

fn interface(cx: &Context, arch: Arch) -> Result<PathBuf> {
    let out = staticlib::built(cx, arch, false)?;
    let archive = Library { arch, trio: false }.archive(&out);
    let include = format!("-I{}", out.join("include").display());
    let more = [&*include, &archive.display().to_string()];
    compile(cx, Path::new("gcc"), "capi.c", "capi", &more)
}
