//! Builds the freestanding programs: the guests, the green-thread example, and its tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::arch::Arch;
use crate::cell::At;
use crate::compiler::{self, ALLOC, CORE, Compiler};
use crate::console;
use crate::context::Context;
use crate::install::Need;
use crate::machine::boot;
use crate::machine::place::Place;

pub const GREEN: &str = "examples/green/Cargo.toml";
pub const GREEN_TESTS: &str = "tests-qemu/green/Cargo.toml";

/// Flags for a freestanding, static program at a fixed address.
const FLAGS: [&str; 6] = [
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-static",
    "-Clink-arg=-no-pie",
    "-Crelocation-model=static",
    "-Cpanic=abort",
];

/// The guest of that name, built once: `init`, `suite`, `sizes` or `golden`.
pub fn guest(cx: &Context, arch: Arch, name: &str) -> Result<PathBuf> {
    let package = ["--package", "guests"];
    programs(cx, arch, CORE, &package, "the guests", "guests").map(|folder| folder.join(name))
}

/// The green-thread example for `arch`, built once.
pub fn green(cx: &Context, arch: Arch) -> Result<PathBuf> {
    let package = ["--manifest-path", GREEN];
    programs(cx, arch, ALLOC, &package, "the green threads", "green")
        .map(|folder| folder.join("green"))
}

/// The example's test program for `arch`, built once.
pub fn green_tests(cx: &Context, arch: Arch) -> Result<PathBuf> {
    let package = ["--manifest-path", GREEN_TESTS];
    programs(
        cx,
        arch,
        ALLOC,
        &package,
        "the tests of green threads",
        "green",
    )
    .map(|folder| folder.join("green-tests"))
}

/// The programs of one package. Packages are built separately, since one build would unite their features.
fn programs(
    cx: &Context,
    arch: Arch,
    libraries: &str,
    package: &[&str],
    what: &str,
    folder: &str,
) -> Result<PathBuf> {
    cx.once(format!("{what}/{arch}"), || {
        let compiler = compiler::find(cx, arch)?;
        let how = match compiler {
            Compiler::Current => "",
            Compiler::FromSource { .. } => ", core from source",
        };
        let _step = cx.step(format!("building {what} for {arch}{how}"));
        let folder = cx.root.join("target").join(folder).join(arch.name());
        let script = cx.root.join("linker/init.ld");
        let script = format!("-Clink-arg=-Wl,-T,{}", script.display());
        let mut build = compiler.cargo("build", libraries, arch.target());
        build.arg("--bins").args(package);
        let flags: Vec<&str> = FLAGS.into_iter().chain([&*script]).collect();
        into(&mut build, &folder, &flags);
        compiler::build(cx, arch, build, what)?;
        Ok(folder.join(arch.target()).join("release"))
    })
}

/// The guest `name` as one relocatable object without undefined symbols: position-independent, for links of every kind.
pub fn object(cx: &Context, arch: Arch, name: &str) -> Result<PathBuf> {
    cx.once(format!("object/{name}/{arch}"), || {
        let _step = cx.step(format!("building an object for {arch}: {name}"));
        let folder = cx.root.join("target/guests").join(format!("{arch}-pic"));
        let object = folder.join(format!("{name}.o"));
        let mut flags = FLAGS.to_vec();
        flags.push("-Crelocation-model=pic");
        if arch == Arch::Aarch64 {
            // Otherwise atomics call a library of the compiler.
            flags.push("-Ctarget-feature=-outline-atomics");
        }
        let mut build = compiler::find(cx, arch)?.cargo("rustc", CORE, arch.target());
        build.args(["--package", "guests", "--bin", name]);
        into(&mut build, &folder, &flags);
        build
            .arg("--")
            .arg(format!("--emit=obj={}", object.display()));
        compiler::build(cx, arch, build, name)?;
        Ok(object)
    })
}

/// Passes the flags in Cargo's encoded form, so that a space in a path is not a separator.
fn into(build: &mut Command, folder: &Path, flags: &[&str]) {
    build
        .arg("--target-dir")
        .arg(folder)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
}

/// The test names that this machine's build of a program lists, queried once. The lists are the same for every CPU; a
/// guest that lacks a test fails by not reporting it.
pub fn names(
    cx: &Context,
    build: fn(&Context, Arch) -> Result<PathBuf>,
    arguments: &[&str],
) -> Result<Vec<String>> {
    let host = Arch::host().context("this machine is none of the three CPUs")?;
    let program = build(cx, host)?;
    let command = format!("{} {}", program.display(), arguments.join(" "));
    cx.once(command.clone(), || {
        let run = boot::run(cx, Place::of_programs(host), &program, &[], arguments)?;
        let names = console::names(&run.finished.output);
        ensure!(!names.is_empty(), "{command} names no test");
        Ok(names)
    })
}

/// The needs of a freestanding program: a compiler for the CPU, and an emulator.
pub fn guest_needs(cx: &Context, at: At) -> Vec<Need> {
    match at {
        At::Host => vec![],
        At::Link(arch) | At::Libcs(arch) => compiler::needs(cx, arch),
        At::Place(place) => {
            let mut needs = place.needs();
            needs.extend(compiler::needs(cx, place.arch));
            needs
        }
    }
}
