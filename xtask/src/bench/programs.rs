//! The programs that are measured, built the way their users build them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::Plan;
use crate::arch::Arch;
use crate::cargo::{cargo, finish};
use crate::lab::Lab;
use crate::musl::Variant;
use crate::outcome::Trouble;
use crate::process::command;
use crate::staticlib;

/// One run of one program, once in each round.
#[derive(Clone, Debug)]
pub struct Program {
    /// The group of its rows.
    pub group: &'static str,
    /// What its lines are, where they do not say it themselves.
    pub variant: String,
    /// How many times as long as the shortest kind its values are measured.
    pub weight: u32,
    /// The file.
    pub file: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Whether glibc may register for itself.
    pub libc_owns: bool,
}

impl Program {
    /// To be started, for values of so many milliseconds.
    pub fn command(&self, milliseconds: u32) -> Command {
        let tunable = format!("glibc.pthread.rseq={}", u8::from(self.libc_owns));
        let mut run = command(&self.file);
        run.args(&self.arguments)
            .env("BENCH_MS", (milliseconds * self.weight).to_string())
            .env("GLIBC_TUNABLES", tunable);
        run
    }
}

/// What was not measured.
#[derive(Clone, Debug, Serialize)]
pub struct Skipped {
    /// The group.
    pub group: String,
    /// The variant.
    pub variant: String,
    /// Because...
    pub why: String,
}

/// The groups of the Rust program, how long their values are measured, and whether with glibc as owner.
const RUST: [(&str, u32, bool); 6] = [
    ("cpu", 1, false),
    ("hooks", 3, false),
    ("threads", 5, true),
    ("ops", 1, false),
    ("structures", 1, false),
    ("contended", 2, false),
];

/// The groups of a program of the user's.
const FOREIGN: [&str; 5] = ["cpu", "threads", "ops", "structures", "contended"];

/// All that `plan` wants.
pub fn build(lab: &Lab, plan: &Plan) -> Result<(Vec<Program>, Vec<Skipped>)> {
    let mut programs = Vec::new();
    let mut skipped = Vec::new();
    let measuring = RUST.iter().any(|(group, ..)| plan.wants(group));
    if measuring {
        let file = rust(lab)?;
        for (group, weight, libc_owns) in RUST {
            programs.push(Program {
                group,
                variant: "rseq-rt".to_owned(),
                weight,
                file: file.clone(),
                arguments: vec![group.to_owned()],
                libc_owns,
            });
        }
    }
    for (variant, libc_owns, made) in c_programs(lab, plan) {
        match made {
            Ok(file) if variant == C_INTERFACE => {
                programs.push(one("cpu", 1, variant, &file, libc_owns))
            }
            Ok(file) => {
                programs.push(one("cpu", 1, variant, &file, libc_owns));
                programs.push(one("threads", 5, variant, &file, libc_owns));
            }
            Err(why) => skipped.push(Skipped {
                group: "cpu, threads".to_owned(),
                variant: variant.to_owned(),
                why: why.to_string(),
            }),
        }
    }
    super::green::add(lab, plan, &mut programs, &mut skipped);
    for (variant, file) in &plan.with {
        programs.extend(FOREIGN.map(|group| one(group, 1, variant, file, true)));
    }
    programs.retain(|program| plan.wants(program.group));
    Ok((programs, skipped))
}

fn one(group: &'static str, weight: u32, variant: &str, file: &Path, libc_owns: bool) -> Program {
    Program {
        group,
        variant: variant.to_owned(),
        weight,
        file: file.to_owned(),
        arguments: vec![group.to_owned()],
        libc_owns,
    }
}

/// The Rust program, with the shared glibc.
fn rust(lab: &Lab) -> Result<PathBuf> {
    let _step = lab.progress.step("building the programs to measure");
    let target = lab.root.join("target/bench-build");
    let mut build = cargo(lab, None, &["build", "--release", "--package", "bench"]);
    build.arg("--target-dir").arg(&target);
    let built = finish(build).map_err(anyhow::Error::msg)?;
    ensure!(built.ok(), "the program does not build: {}", built.tail(30));
    Ok(target.join("release/bench"))
}

const C_INTERFACE: &str = "C interface";

/// A C program: the variant, whether its glibc may register, and the file.
type Made = (&'static str, bool, Result<PathBuf, Trouble>);

fn c_programs(lab: &Lab, plan: &Plan) -> Vec<Made> {
    if !plan.wants("cpu") && !plan.wants("threads") {
        return vec![];
    }
    let Some(arch) = Arch::host() else {
        let none = "this machine is none of the three CPUs".to_owned();
        return vec![("C", false, Err(Trouble::Missing(none)))];
    };
    let glibc = compile(lab, Path::new("gcc"), "libc.c", "glibc", &["-static"]);
    let mut made = vec![
        ("glibc, static", true, glibc.clone()),
        ("glibc, static, rseq off", false, glibc),
        (C_INTERFACE, false, interface(lab, arch)),
    ];
    let musls = [
        ("musl, stock", Variant::Stock),
        ("musl, hooks", Variant::Hooked),
    ];
    for (variant, musl) in musls.into_iter().filter(|_| plan.musl) {
        let built = lab.musl(arch, musl).and_then(|root| {
            let gcc = root.join("bin/musl-gcc");
            compile(lab, &gcc, "libc.c", musl.name(), &["-static"])
        });
        made.push((variant, false, built));
    }
    made
}

fn interface(lab: &Lab, arch: Arch) -> Result<PathBuf, Trouble> {
    let out = lab.root.join("target/bench-build/capi");
    let plan = staticlib::Plan { arch, trio: false };
    let archive = staticlib::build(&lab.root, plan, &out, lab.install, &lab.progress)?;
    let include = format!("-I{}", out.join("include").display());
    let archive = archive.display().to_string();
    compile(
        lab,
        Path::new("gcc"),
        "capi.c",
        "capi",
        &[&include, &archive],
    )
}

/// Compiles a file of `tests-qemu/bench/c` with what a user would say.
pub fn compile(
    lab: &Lab,
    gcc: &Path,
    source: &str,
    name: &str,
    more: &[&str],
) -> Result<PathBuf, Trouble> {
    let found = which::which(gcc).map_err(|_| Trouble::Missing(format!("no {}", gcc.display())))?;
    let folder = lab.root.join("target/bench-build");
    std::fs::create_dir_all(&folder).map_err(|why| Trouble::Missing(why.to_string()))?;
    let file = folder.join(format!("{}-{name}", source.trim_end_matches(".c")));
    let mut compile = command(found);
    compile
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
        .arg(&file)
        .arg(lab.root.join("tests-qemu/bench/c").join(source))
        .args(more);
    match finish(compile) {
        Ok(done) if done.ok() => Ok(file),
        Ok(done) => Err(Trouble::Broken(format!("{source}: {}", done.tail(6)))),
        Err(why) => Err(Trouble::Missing(why)),
    }
}
