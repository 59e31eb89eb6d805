//! Finds the compiler for each CPU, and builds with it.
//!
//! The toolchain in use, if it has the target or rustup can add it; else the distribution's compiler, which ships the
//! source of `core`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

use crate::arch::Arch;
use crate::context::Context;
use crate::install::Need;
use crate::outcome::{Failure, Missing};
use crate::process::{self, Finished, command};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// The toolchain that `cargo xtask` runs with.
    Current,
    /// A cargo and a rustc that build `core` from source.
    FromSource { cargo: PathBuf, rustc: PathBuf },
}

/// The library crates that a program without std needs.
pub const CORE: &str = "core,compiler_builtins";
/// The same plus `alloc`.
pub const ALLOC: &str = "core,alloc,compiler_builtins";

impl Compiler {
    /// The cargo that `cargo xtask` itself runs with.
    pub fn program() -> Command {
        command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    /// `cargo SUBCOMMAND` for that target, with these parts of the library where they are built from source. Package and
    /// target folder are yet to be added.
    pub fn cargo(&self, subcommand: &str, libraries: &str, target: &str) -> Command {
        let mut cargo = match self {
            Compiler::Current => {
                let mut cargo = Compiler::program();
                cargo.arg(subcommand);
                cargo
            }
            Compiler::FromSource { cargo, rustc } => {
                let mut build = command(cargo);
                build
                    .env("RUSTC", rustc)
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env_remove("RUSTUP_TOOLCHAIN")
                    .arg(subcommand)
                    .arg(format!("-Zbuild-std={libraries}"));
                build
            }
        };
        cargo.args(["--release", "--target", target]);
        cargo
    }
}

/// A cargo of `toolchain`, or the current one, in the workspace.
pub fn cargo(cx: &Context, toolchain: Option<&str>, arguments: &[&str]) -> Command {
    let mut cargo = match toolchain {
        // Only rustup's cargo understands `+toolchain`.
        Some(name) => {
            let mut cargo = command("cargo");
            cargo
                .arg(format!("+{name}"))
                .env_remove("RUSTUP_TOOLCHAIN")
                .env_remove("RUSTC");
            cargo
        }
        None => Compiler::program(),
    };
    cargo
        .args(arguments)
        .current_dir(&cx.root)
        .env("CARGO_TERM_COLOR", "never");
    cargo
}

pub fn finish(mut cargo: Command) -> Result<Finished> {
    process::run(&mut cargo, 1800)
}

/// `cargo fmt --check` and clippy for a package outside of the workspace.
pub fn check_form(cx: &Context, manifest: &str, target: &Path) -> Result<()> {
    let target = target.display().to_string();
    let lint = ["--quiet", "--target-dir", &target, "--", "-Dwarnings"];
    for (tool, arguments) in [("fmt", &["--check"][..]), ("clippy", &lint[..])] {
        has_tool(cx, None, tool)?;
        let mut check = cargo(cx, None, &[tool, "--manifest-path", manifest]);
        check.args(arguments);
        finish(check)?.check(tool)?;
    }
    Ok(())
}

pub fn has_tool(cx: &Context, toolchain: Option<&str>, tool: &str) -> Result<()> {
    let asked = finish(cargo(cx, toolchain, &[tool, "--version"]))?;
    match asked.ok() {
        true => Ok(()),
        false => Err(Missing::required(asked.tail(1))),
    }
}

/// The toolchain that is the promised release of a manifest: one of rustup's, or the one in use.
pub fn promised(cx: &Context, manifest: &str) -> Result<Option<String>> {
    let text = std::fs::read_to_string(cx.root.join(manifest))?;
    // That of the package: the workspace's is for the tools.
    let (_, package) = text.split_once("[package]").unwrap_or_default();
    let mut lines = package.lines();
    let promised = lines.find_map(|line| line.strip_prefix("rust-version = "));
    let promised = promised.with_context(|| format!("{manifest} states no rust-version"))?;
    let promised = promised.trim_matches('"');
    let is_promised = |text: &str| {
        let rest = text.strip_prefix(promised);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let asked = |program: &str, arguments: &[&str]| {
        let asked = process::run(command(program).args(arguments), 60);
        asked.map(|asked| asked.output).unwrap_or_default()
    };
    let toolchains = asked("rustup", &["toolchain", "list"]);
    let mut names = toolchains.split_whitespace();
    let toolchain = names.find(|name| is_promised(name)).map(str::to_owned);
    let current = asked("rustc", &["--version"]);
    if toolchain.is_none() && !is_promised(current.trim_start_matches("rustc ")) {
        let why = format!("no toolchain of this machine is Rust {promised}");
        return Err(Missing::optional(why));
    }
    Ok(toolchain)
}

/// The toolchain that has Miri, or to which rustup can add it.
pub fn with_miri(cx: &Context) -> Result<Option<&'static str>> {
    let has = |toolchain: Option<&str>| has_tool(cx, toolchain, "miri").is_ok();
    let nightly = Some("nightly");
    let toolchain = [None, nightly].into_iter().find(|&one| has(one));
    let added = || (add_miri(cx) && has(nightly)).then_some(nightly);
    toolchain
        .or_else(added)
        .ok_or_else(|| Missing::optional("no toolchain of this machine has Miri"))
}

/// `rustup component add miri`, for a nightly that is here already. It fails fast where rustup can reach nothing.
fn add_miri(cx: &Context) -> bool {
    if !cx.install {
        return false;
    }
    let what = "rustup component add miri rust-src, for the tests under Miri";
    let _step = cx.step(what);
    let mut add = command("rustup");
    add.args(["component", "add", "--toolchain", "nightly"]);
    add.args(["miri", "rust-src"]);
    finish(add).is_ok_and(|added| added.ok())
}

/// Runs a `build` for `arch` to which all is added but the linker.
pub fn build(cx: &Context, arch: Arch, mut build: Command, what: &str) -> Result<()> {
    build.current_dir(&cx.root).env("CARGO_TERM_COLOR", "never");
    if Arch::host() != Some(arch) {
        let linker = arch.cross_linker();
        process::tool(&linker)?;
        build.env(arch.linker_variable(), linker);
    }
    let built = finish(build)?;
    if built.ok() {
        return Ok(());
    }
    // The linker's own error says more than rustc's report of it.
    let complaint = |line: &&str| line.contains("error: ") || line.contains("undefined reference");
    let errors = || built.output.lines().filter(complaint);
    let first = errors()
        .find(|line| !line.contains("error: linking with"))
        .or_else(|| errors().next());
    let first = first.unwrap_or_default().trim();
    let why = format!("{what} does not build for {arch}: {first}");
    Err(Failure::error(why, built.output))
}

/// Whether the current toolchain has that library for `target`.
fn has_library(target: &str, start: &str) -> bool {
    let mut ask = command("rustc");
    ask.args(["--print", "target-libdir", "--target", target]);
    let Ok(answer) = process::run(&mut ask, 60) else {
        return false;
    };
    let files = std::fs::read_dir(answer.output.trim());
    let mut files = files.into_iter().flatten().filter_map(Result::ok);
    answer.ok() && files.any(|file| file.file_name().to_string_lossy().starts_with(start))
}

/// Whether the current toolchain has that library for `target`, or rustup can add it.
fn gets_library(cx: &Context, target: &str, start: &str) -> bool {
    let has = || has_library(target, start);
    let added = || cx.install && which::which("rustup").is_ok() && add_target(cx, target);
    let got = cx.once(format!("{start}{target}"), || {
        Ok(has() || (added() && has()))
    });
    got.unwrap_or(false)
}

/// Whether the current toolchain can build `std` programs for `target`.
pub fn has_std(cx: &Context, target: &str) -> bool {
    gets_library(cx, target, "libstd-")
}

/// The target of `std` programs for `arch`, on glibc or on musl, which a complete run may lack.
pub fn std_target(cx: &Context, arch: Arch, musl: bool) -> Result<String> {
    let libc = if musl { "-musl" } else { "-gnu" };
    let target = arch.target().replace("-gnu", libc);
    let why = || format!("no toolchain of this machine has std for {target}");
    match has_std(cx, &target) {
        true => Ok(target),
        false if musl => Err(Missing::optional(why())),
        false => Err(Missing::required(why())),
    }
}

/// Finds the compiler for `arch`.
pub fn find(cx: &Context, arch: Arch) -> Result<Compiler> {
    if gets_library(cx, arch.target(), "libcore-") {
        return Ok(Compiler::Current);
    }
    from_source().ok_or_else(|| {
        Missing::required(format!(
            "no compiler for {}: rustup has no such target here, and no rustc on PATH brings its own library source",
            arch.target()
        ))
    })
}

/// `rustup target add`, which fails fast without a network.
fn add_target(cx: &Context, target: &str) -> bool {
    // rustup does not lock a toolchain.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let _step = cx.step(format!("rustup target add {target}"));
    let mut add = command("rustup");
    add.args(["target", "add", target]);
    // A network may fail once; an absent one fails at once every time.
    (0..3).any(|_| process::run(&mut add, 300).is_ok_and(|added| added.ok()))
}

/// A rustc on PATH that is not rustup's and ships the source of `core`.
fn from_source() -> Option<Compiler> {
    which::which_all("rustc").ok()?.find_map(|rustc| {
        let mut ask = command(&rustc);
        ask.args(["--print", "sysroot"])
            .env_remove("RUSTUP_TOOLCHAIN");
        let sysroot = process::run(&mut ask, 60).ok().filter(Finished::ok)?;
        let core =
            Path::new(sysroot.output.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml");
        let cargo = rustc.with_file_name("cargo");
        let rustup = std::fs::canonicalize(&rustc).is_ok_and(|real| real.ends_with("rustup"));
        (core.exists() && cargo.exists() && !rustup)
            .then_some(Compiler::FromSource { cargo, rustc })
    })
}

/// The packages that [`find`] and the linker need. rustup's targets are tried first; the distribution's compiler is
/// needed only without them.
pub fn needs(cx: &Context, arch: Arch) -> Vec<Need> {
    let why = format!("linking {arch} programs");
    let mut needs = match Arch::host() == Some(arch) {
        true => vec![Need::new("cc", &["gcc"], why)],
        false => vec![Need::new(
            arch.cross_linker(),
            &[arch.cross_linker_package()],
            why,
        )],
    };
    if find(cx, arch).is_err() {
        let why = format!("building core for {arch}");
        // Not on PATH: the probe is the library's source.
        let core = "/usr/lib/rustlib/src/rust/library/core/Cargo.toml";
        needs.push(Need::new("/usr/bin/rustc", &["rustc-web", "rustc"], &why));
        needs.push(Need::new("/usr/bin/cargo", &["cargo-web", "cargo"], &why));
        needs.push(Need::new(core, &["rust-web-src", "rust-src"], why));
    }
    needs
}

/// The same plus the libc of another CPU and an emulator for its programs.
pub fn needs_with_libc(cx: &Context, arch: Arch) -> Vec<Need> {
    let mut needs = needs(cx, arch);
    if Arch::host() != Some(arch) {
        let why = format!("C programs for {arch}");
        let package = format!("libc6-dev-{}-cross", arch.debian());
        needs.push(Need::new(arch.user_emulator(), &["qemu-user"], &why));
        needs.push(Need::new(arch.cross_libc(), &[package], why));
    }
    needs
}

/// Starts a C program: natively, or under qemu-user with the other CPU's libc.
pub fn start_c(arch: Arch, program: &Path) -> Result<Command> {
    if Arch::host() == Some(arch) {
        return Ok(command(program));
    }
    // `max` has every feature of the CPU, BTI included.
    let mut emulator = process::tool(&arch.user_emulator())?;
    emulator.args(["-cpu", if arch == Arch::Aarch64 { "max" } else { "rv64" }]);
    emulator.args(["-L", &format!("/usr/{arch}-linux-gnu")]);
    emulator.arg(program);
    Ok(emulator)
}

pub fn has_libc(arch: Arch) -> Result<()> {
    let libc = arch.cross_libc();
    match Arch::host() == Some(arch) || Path::new(&libc).exists() {
        true => Ok(()),
        false => Err(Missing::required(format!("{libc} is not installed"))),
    }
}
