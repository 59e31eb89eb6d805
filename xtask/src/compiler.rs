//! Which compiler builds the guests for which CPU.
//!
//! The toolchain in use, if it has the target or rustup can add it; else the
//! distribution's own compiler, which comes with the source of `core`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::arch::Arch;
use crate::install::Need;
use crate::process::{self, command};
use crate::progress::Progress;

/// A way to compile for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// The toolchain `cargo xtask` itself runs with.
    Current,
    /// A cargo and a rustc that build `core` from source on the way.
    FromSource {
        /// The cargo.
        cargo: PathBuf,
        /// The rustc.
        rustc: PathBuf,
    },
}

impl Compiler {
    /// The `cargo build` to which package and target are yet to be added.
    pub fn build(&self) -> Command {
        self.build_with("core,compiler_builtins")
    }

    /// The same for a program that needs more of the library than `core`.
    pub fn build_with(&self, libraries: &str) -> Command {
        self.cargo("build", libraries)
    }

    /// The `cargo rustc`, which takes arguments for the program's own crate.
    pub fn rustc(&self) -> Command {
        self.cargo("rustc", "core,compiler_builtins")
    }

    fn cargo(&self, subcommand: &str, libraries: &str) -> Command {
        match self {
            Compiler::Current => {
                let mut cargo =
                    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
                cargo.arg(subcommand);
                cargo
            }
            Compiler::FromSource { cargo, rustc } => {
                let mut build = command(cargo);
                build
                    .env("RUSTC", rustc)
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env_remove("RUSTUP_TOOLCHAIN");
                build
                    .arg(subcommand)
                    .arg(format!("-Zbuild-std={libraries}"));
                build
            }
        }
    }
}

/// Whether the current toolchain has `core` for `arch`.
fn has_target(arch: Arch) -> bool {
    has_library(arch.target(), "libcore-")
}

/// Whether the current toolchain has that library for `target`.
fn has_library(target: &str, start: &str) -> bool {
    let mut ask = command("rustc");
    ask.args(["--print", "target-libdir", "--target", target]);
    let Ok(answer) = process::run(&mut ask, Duration::from_secs(60)) else {
        return false;
    };
    let files = std::fs::read_dir(answer.output.trim())
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    answer.ok()
        && files
            .into_iter()
            .any(|file| file.file_name().to_string_lossy().starts_with(start))
}

/// Whether the current toolchain can build `std` programs for `target`; with `install`, asks rustup for it.
pub fn has_std(target: &str, install: bool, progress: &Progress) -> bool {
    let has = || has_library(target, "libstd-");
    has() || (install && which::which("rustup").is_ok() && try_add(target, progress) && has())
}

/// Finds the compiler for `arch`; with `install`, asks rustup for the target.
pub fn find(arch: Arch, install: bool, progress: &Progress) -> Result<Compiler> {
    if has_target(arch) || (install && add_target(arch, progress)) {
        return Ok(Compiler::Current);
    }
    match from_source() {
        Some(compiler) => Ok(compiler),
        None => bail!(
            "no compiler for {}: rustup has no such target here, and no rustc on PATH brings its own library source",
            arch.target()
        ),
    }
}

/// `rustup target add`, which fails fast where rustup can reach nothing; it is
/// asked once.
fn add_target(arch: Arch, progress: &Progress) -> bool {
    static ADDED: [OnceLock<bool>; 3] = [const { OnceLock::new() }; 3];
    *ADDED[arch as usize].get_or_init(|| {
        which::which("rustup").is_ok() && try_add(arch.target(), progress) && has_target(arch)
    })
}

fn try_add(target: &str, progress: &Progress) -> bool {
    let _step = progress.step(format!("rustup target add {target}"));
    let mut add = command("rustup");
    add.args(["target", "add", target]);
    // A network may fail once; one that is not there fails at once each time.
    (0..3).any(|_| {
        let added = process::run(&mut add, Duration::from_secs(300));
        added.is_ok_and(|added| added.ok())
    })
}

/// A rustc on PATH that is not rustup's and brings the source of `core`.
fn from_source() -> Option<Compiler> {
    which::which_all("rustc").ok()?.find_map(|rustc| {
        let mut ask = command(&rustc);
        ask.args(["--print", "sysroot"])
            .env_remove("RUSTUP_TOOLCHAIN");
        let sysroot = process::run(&mut ask, Duration::from_secs(60))
            .ok()
            .filter(process::Finished::ok)?;
        let core =
            Path::new(sysroot.output.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml");
        let cargo = rustc.with_file_name("cargo");
        let rustup = std::fs::canonicalize(&rustc).is_ok_and(|real| real.ends_with("rustup"));
        (core.exists() && cargo.exists() && !rustup)
            .then_some(Compiler::FromSource { cargo, rustc })
    })
}

/// What to install so that `find` and the link succeed. rustup's targets come first, so
/// the distribution's compiler is needed only where those cannot be had.
pub fn needs(arch: Arch, install: bool, progress: &Progress) -> Vec<Need> {
    let mut needs = Vec::new();
    let why = format!("linking {arch} guests");
    if Arch::host() == Some(arch) {
        needs.push(Need::new("cc", &["gcc"], why));
    } else {
        needs.push(Need::new(
            arch.cross_linker(),
            &[arch.cross_linker_package()],
            why,
        ));
    }
    if find(arch, install, progress).is_err() {
        let why = format!("building core for {arch}");
        // Not on PATH by definition: the probe is the library's source.
        let probe = |file: &str| format!("/usr/lib/rustlib/src/rust/library/{file}");
        needs.push(Need::new("/usr/bin/rustc", &["rustc-web", "rustc"], &why));
        needs.push(Need::new("/usr/bin/cargo", &["cargo-web", "cargo"], &why));
        needs.push(Need::new(
            probe("core/Cargo.toml"),
            &["rust-web-src", "rust-src"],
            why,
        ));
    }
    needs
}
