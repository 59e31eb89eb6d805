//! The crate for programs on std: its test programs on each libc, without rseq, and as PID 1 of real kernels.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use nix::sys::signal::Signal::SIGSEGV;

use crate::arch::Arch;
use crate::case::{Case, Family};
use crate::cell::{At, keep_console};
use crate::compiler::{self, Compiler, cargo, finish, std_target};
use crate::context::Context;
use crate::families::runtimes::UNDER;
use crate::machine::boot;
use crate::machine::place::{Machine, Place};
use crate::outcome::{Failure, Missing};
use crate::process::{Finished, command, run, set_glibc_rseq};

pub const FAMILY: Family = Family {
    name: "std",
    cases,
    needs: |_, at| match at {
        At::Place(place) => place.needs(),
        _ => vec![],
    },
};

const PACKAGE: &str = "rseq-rt-std";

/// Its test programs, by cargo's names.
const PROGRAMS: [&str; 6] = ["lib", "allocator", "fibers", "filter", "fork", "threads"];

/// The source of a thread's rseq: one test of `threads` each, of which a run takes one.
const LIBC: &str = "support_by_libc";
const OWN: &str = "support_by_own";
const ATOMICS: &str = "support_by_atomics";

/// Each broken variant, the program that is to find it, and its test; none where the program is to die of SIGSEGV.
const BROKEN: [(&str, &str, Option<&str>); 4] = [
    ("without-release", "threads", None),
    (
        "left-blocked",
        "threads",
        Some("signals_are_open_behind_the_end"),
    ),
    (
        "registers-again",
        "threads",
        Some("nothing_registers_behind_the_end"),
    ),
    (
        "unrepaired",
        "lib",
        Some("here::fork::tests::what_is_entered_is_repaired_in_the_child"),
    ),
];

/// Targets without rseq, where the crate compiles and uses atomics.
const ELSEWHERE: [&str; 3] = [
    "aarch64-apple-darwin",
    "i686-unknown-linux-gnu",
    "x86_64-pc-windows-gnu",
];

/// Timeout of a program in seconds: a storm takes a few natively, and a minute where the CPU is emulated.
const PATIENCE: u64 = 600;

fn cases(_: &Context, at: At) -> Result<Vec<Case>> {
    let At::Place(place) = at else {
        return Ok(vec![]);
    };
    let emulated = |program: &'static str| {
        Case::new(program, move |cx: &Context| emulated(cx, place, program))
    };
    Ok(match place.machine {
        Machine::Native => on_the_host(place.arch),
        _ if aborts_nothing(place) => vec![emulated("threads")],
        Machine::User if Arch::host() == Some(place.arch) => vec![],
        Machine::User => PROGRAMS.map(emulated).into(),
        _ if place.is_newest() => PROGRAMS.map(emulated).into(),
        _ => vec![],
    })
}

/// The kernel that does not abort sections.
fn aborts_nothing(place: Place) -> bool {
    let system = place.system();
    place.arch == Arch::Aarch64 && system.is_some_and(|system| system.name == "7.0")
}

fn on_the_host(arch: Arch) -> Vec<Case> {
    let mut cases = Vec::new();
    for under in UNDER {
        let support = if under.libc_on { LIBC } else { OWN };
        for program in PROGRAMS {
            cases.push(Case::new(format!("{}/{program}", under.name), move |cx| {
                let target = std_target(cx, arch, under.musl)?;
                let mut started = command(build(cx, arch, &target, "", program)?);
                set_glibc_rseq(started.args(arguments(support, &[])), under.libc_on);
                let finished = run(&mut started, PATIENCE)?;
                let ok = finished.ok();
                passed(finished, ok)
            }));
        }
    }
    for (variant, program, test) in BROKEN {
        cases.push(Case::new(format!("broken/{variant}"), move |cx| {
            broken(cx, arch, variant, program, test)
        }));
    }
    for elsewhere in ELSEWHERE {
        cases.push(Case::new(format!("compiles/{elsewhere}"), move |cx| {
            compiles(cx, elsewhere)
        }));
    }
    cases.push(Case::new("docs", |cx| {
        let tests = cargo(cx, None, &["test", "--doc", "--package", PACKAGE]);
        finish(tests)?.check("its examples")?;
        Ok(String::new())
    }));
    cases.push(Case::new("msrv", msrv));
    cases.push(Case::new("miri", miri));
    cases
}

/// All tests except those of another support and the skipped ones.
fn arguments(support: &str, skipped: &[&str]) -> Vec<String> {
    let others = [LIBC, OWN, ATOMICS].into_iter();
    let others = others.filter(|other| *other != support);
    let skip = others.chain(skipped.iter().copied());
    ["--include-ignored", "--color", "never"]
        .into_iter()
        .chain(skip.flat_map(|test| ["--skip", test]))
        .map(str::to_owned)
        .collect()
}

/// A static program: with musl, or on riscv64, where std may lack musl, with glibc.
fn emulated(cx: &Context, place: Place, program: &str) -> Result<String> {
    let target = std_target(cx, place.arch, place.arch != Arch::Riscv64)?;
    let flags = "-Ctarget-feature=+crt-static";
    let file = build(cx, place.arch, &target, flags, program)?;
    let without = place.machine == Machine::User || aborts_nothing(place);
    let support = if without { ATOMICS } else { OWN };
    let skipped: &[&str] = match place.boots() {
        // They start other programs, of which PID 1 has none.
        true => &["under_a_filter", "another_program_is_started"],
        // qemu-user has no filters, and crashes when the fork child of a multithreaded process starts a thread.
        false => &["filter", "starts_threads"],
    };
    let finished = boot::run(cx, place, &file, &[], &arguments(support, skipped))?.finished;
    if place.boots() {
        keep_console(cx, &format!("std-{program}"), place, &finished.output);
    }
    // PID 1 has no exit code; the kernel's line may be all that is left, if the kernel was faster than the console.
    let ended_well = finished.output.contains("init! exitcode=0x00000000");
    let ok = match place.boots() {
        true => ended_well || finished.output.contains("test result: ok. "),
        false => finished.ok(),
    };
    passed(finished, ok)
}

/// The program's result, if it passed. The kernel's output may interrupt it.
fn passed(finished: Finished, ok: bool) -> Result<String> {
    let has_failed = |line: &str| line.trim().starts_with("test result: FAILED");
    if !ok || finished.output.lines().any(has_failed) {
        return Err(Failure::error(finished.end.to_string(), finished.output));
    }
    let mut lines = finished.output.lines();
    let result = lines.find_map(|line| line.trim().strip_prefix("test result: ok. "));
    let passed = result.and_then(|result| result.split(';').next());
    Ok(passed.unwrap_or("exit code 0").to_owned())
}

fn broken(
    cx: &Context,
    arch: Arch,
    variant: &str,
    program: &str,
    test: Option<&str>,
) -> Result<String> {
    let flags = "--cfg=rseq_rt_std_broken";
    let target = std_target(cx, arch, false)?;
    let mut started = command(build(cx, arch, &target, flags, program)?);
    started
        .args(["--skip", "filter"])
        .env("RSEQ_RT_STD_BROKEN", variant);
    let finished = run(set_glibc_rseq(&mut started, false), PATIENCE)?;
    let Some(test) = test else {
        return finished.check_death(SIGSEGV);
    };
    let line = format!("test {test} ... FAILED");
    match finished.output.lines().any(|said| said.trim() == line) {
        true => Ok(format!("seen by {test}")),
        false => Err(Failure::error(
            format!("it survives: {}", finished.end),
            finished.output,
        )),
    }
}

fn compiles(cx: &Context, target: &str) -> Result<String> {
    if !compiler::has_std(cx, target) {
        let why = format!("no toolchain of this machine has std for {target}");
        return Err(Missing::optional(why));
    }
    let folder = folder(cx).display().to_string();
    let arguments = ["check", "--package", PACKAGE, "--target", target];
    let mut check = cargo(cx, None, &arguments);
    check
        .args(["--target-dir", &folder])
        .env("RUSTFLAGS", "-Dwarnings");
    finish(check)?.check("the crate")?;
    Ok(String::new())
}

/// With the oldest compiler that it promises.
fn msrv(cx: &Context) -> Result<String> {
    let toolchain = compiler::promised(cx, "std/Cargo.toml")?;
    let folder = folder(cx).join("msrv").display().to_string();
    let arguments = ["build", "--package", PACKAGE, "--target-dir", &folder];
    finish(cargo(cx, toolchain.as_deref(), &arguments))?.check("the crate")?;
    Ok(String::new())
}

/// The part without rseq, on a system without it: Miri runs no critical section.
fn miri(cx: &Context) -> Result<String> {
    let arguments = ["miri", "test", "--package", PACKAGE, "--lib"];
    let mut miri = cargo(cx, compiler::with_miri(cx)?, &arguments);
    miri.args(["--target", ELSEWHERE[0], "--target-dir", "target/miri"]);
    finish(miri)?.check("its tests under Miri")?;
    Ok(String::new())
}

fn folder(cx: &Context) -> PathBuf {
    cx.root.join("target/embed/std")
}

/// One of the test programs. cargo builds all of them the first time, and nothing afterwards.
fn build(cx: &Context, arch: Arch, target: &str, flags: &str, program: &str) -> Result<PathBuf> {
    // Builds with other flags would replace each other.
    let place = match flags {
        "" => folder(cx),
        flags => folder(cx).join(flags.replace(|letter: char| !letter.is_alphanumeric(), "")),
    };
    let mut build = Compiler::Current.cargo("test", "std", target);
    build
        .current_dir(&cx.root)
        .args(["--no-run", "--tests", "--package", PACKAGE, "--target-dir"])
        .arg(&place)
        .env("RUSTFLAGS", flags)
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_TERM_COLOR", "never");
    if Arch::host() != Some(arch) {
        let target = target.to_uppercase().replace('-', "_");
        build.env(format!("CARGO_TARGET_{target}_LINKER"), arch.cross_linker());
    }
    let built = finish(build)?.check("the test programs do not build")?;
    let wanted = format!("{program}.rs (");
    let line = built.lines().find(|line| line.contains(&wanted));
    let path = line.and_then(|line| Some(line.split_once('(')?.1.trim_end_matches(')')));
    let Some(path) = path else {
        bail!("cargo names no program {program}");
    };
    ensure!(cx.root.join(path).is_file(), "{path} was not built");
    Ok(cx.root.join(path))
}
