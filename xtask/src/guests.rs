//! Builds the freestanding programs: the guests, and examples made like them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::arch::Arch;
use crate::compiler::Compiler;
use crate::outcome::Trouble;
use crate::process;
use crate::progress::Progress;

/// A program of the guests' package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guest {
    /// The demo: the minimal init.
    Init,
    /// The tests.
    Suite,
    /// The hooks as symbols of their own.
    Sizes,
    /// The per-CPU operations as symbols of their own.
    Golden,
}

impl Guest {
    /// The name of its file.
    pub fn file(self) -> &'static str {
        match self {
            Guest::Init => "init",
            Guest::Suite => "suite",
            Guest::Sizes => "sizes",
            Guest::Golden => "golden",
        }
    }
}

/// What makes a program freestanding, static and at a fixed address.
const FLAGS: [&str; 6] = [
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-static",
    "-Clink-arg=-no-pie",
    "-Crelocation-model=static",
    "-Cpanic=abort",
];

/// The linker script of the minimal init, from the workspace's root.
const SCRIPT: &str = "linker/init.ld";

/// The compiler's flags for the guests of the workspace at `root`.
pub fn flags(root: &Path) -> String {
    let mut flags: Vec<String> = FLAGS.iter().map(ToString::to_string).collect();
    let script = root.join(SCRIPT);
    if script.exists() {
        flags.push(format!("-Clink-arg=-Wl,-T,{}", script.display()));
    }
    // Cargo's encoded form, so that a space in the path is no separator.
    flags.join("\u{1f}")
}

/// Builds the guests for `arch` and returns the folder they are in.
pub fn build(
    root: &Path,
    arch: Arch,
    compiler: &Compiler,
    progress: &Progress,
) -> Result<PathBuf, Trouble> {
    let package = ["--package", "guests"];
    build_package(root, arch, compiler.build(), &package, progress)
}

/// The program `name` as one relocatable object that refers to nothing outside: position-independent, for links of
/// every kind.
pub fn object(
    root: &Path,
    arch: Arch,
    compiler: &Compiler,
    name: &str,
    progress: &Progress,
) -> Result<PathBuf, Trouble> {
    let target_dir = root.join("target/guests").join(format!("{arch}-pic"));
    let object = target_dir.join(format!("{name}.o"));
    let mut flags: Vec<&str> = FLAGS.to_vec();
    flags.push("-Crelocation-model=pic");
    if arch == Arch::Aarch64 {
        // Else atomics are calls into a library of the compiler's.
        flags.push("-Ctarget-feature=-outline-atomics");
    }
    let mut build = compiler.rustc();
    build
        .args(["--release", "--package", "guests", "--bin", name])
        .args(["--target", arch.target(), "--target-dir"])
        .arg(&target_dir)
        .arg("--")
        .arg(format!("--emit=obj={}", object.display()))
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    compile(root, arch, build, progress)?;
    Ok(object)
}

/// Builds the programs of one package for `arch` by the `build` that is begun, and returns the folder they are in.
///
/// One package at a time: in one build with another, each would have the features that the other asks for.
pub fn build_package(
    root: &Path,
    arch: Arch,
    mut build: Command,
    package: &[&str],
    progress: &Progress,
) -> Result<PathBuf, Trouble> {
    let target_dir = root.join("target/guests").join(arch.name());
    build
        .args(["--release", "--bins"])
        .args(package)
        .args(["--target", arch.target(), "--target-dir"])
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(root));
    compile(root, arch, build, progress)?;
    Ok(target_dir.join(arch.target()).join("release"))
}

/// Runs a `build` for `arch` to which all is added but the linker.
fn compile(
    root: &Path,
    arch: Arch,
    mut build: Command,
    progress: &Progress,
) -> Result<(), Trouble> {
    build.current_dir(root).env("CARGO_TERM_COLOR", "never");
    if Arch::host() != Some(arch) {
        let linker = arch.cross_linker();
        if which::which(&linker).is_err() {
            return Err(Trouble::Missing(format!(
                "no linker for {arch}: {linker} is not installed"
            )));
        }
        build.env(arch.linker_variable(), linker);
    }
    let built = process::run(&mut build, Duration::from_secs(1800))
        .map_err(|error| Trouble::Missing(format!("cargo did not start: {error}")))?;
    if !built.ok() {
        progress.say(format!(
            "the {arch} guests do not build\n{}",
            built.tail(60)
        ));
        // The linker's own complaint says more than that there was one.
        let complaint =
            |line: &&str| line.contains("error: ") || line.contains("undefined reference");
        let errors = || built.output.lines().filter(complaint);
        let first = errors()
            .find(|line| !line.contains("error: linking with"))
            .or_else(|| errors().next());
        let first = first.unwrap_or_default().trim();
        return Err(Trouble::Broken(format!(
            "the {arch} guests do not build: {first}"
        )));
    }
    Ok(())
}
