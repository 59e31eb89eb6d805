//! `cargo xtask musl`: musl from the distribution's source package, every thread registered.

mod insertions;
mod source;
mod specs;
mod tree;
mod vfork;

pub use source::Release;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::arch::Arch;
use crate::cli::MuslArgs;
use crate::lab::Lab;
use crate::outcome::Trouble;
use crate::process::{self, command};
use crate::staticlib;

/// Which musl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Variant {
    /// With the hooks.
    Hooked,
    /// With the hooks, which register only where the environment has `MUSL_RSEQ=1`.
    Off,
    /// As the distribution has it, built with the same flags: for comparison.
    Stock,
    /// Broken on purpose: the hook of detached threads comes after the unmap, so never.
    DetachedAfterUnmap,
    /// Broken on purpose: detached threads have no exit hook.
    DetachedAbsent,
}

impl Variant {
    /// The name of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Hooked => "hooked",
            Variant::Off => "off",
            Variant::Stock => "stock",
            Variant::DetachedAfterUnmap => "detached-after-unmap",
            Variant::DetachedAbsent => "detached-absent",
        }
    }
}

/// Runs the command.
pub fn run(args: &MuslArgs) -> Result<ExitCode> {
    let lab = Lab::new(!args.no_install, 600)?;
    let Some(arch) = args.arch.or_else(Arch::host) else {
        bail!("this machine is none of the three CPUs: name one with --arch");
    };
    let variant = if args.off { Variant::Off } else { args.variant };
    match build(&lab, arch, variant, args.release, Some(&args.out)) {
        Ok(root) => {
            println!("{}", root.join("bin/musl-gcc").display());
            Ok(ExitCode::SUCCESS)
        }
        Err(trouble) => bail!("{trouble}"),
    }
}

/// Builds that musl below target/musl if it is not there as it would be built now, and fills `out` or a folder there
/// with include/, lib/ and bin/musl-gcc. Returns the filled folder.
pub fn build(
    lab: &Lab,
    arch: Arch,
    variant: Variant,
    release: Release,
    out: Option<&Path>,
) -> Result<PathBuf, Trouble> {
    source::install_needs(lab, arch);
    if arch != Arch::host().unwrap_or(arch) {
        let gcc = arch.cross_linker();
        if which::which(&gcc).is_err() {
            return Err(Trouble::Missing(format!("{gcc} is not installed")));
        }
    }
    let source = source::find(lab, release).map_err(|why| Trouble::Missing(format!("{why:#}")))?;
    let library = library(lab, arch)?;
    let store = release.within(&lab.root.join("target/musl").join(arch.name()));
    let broken = |why: anyhow::Error| Trouble::Broken(format!("musl for {arch}: {why:#}"));
    let base = store.join(Variant::Hooked.name());
    let hooked = Variant::Hooked;
    let mut stamp =
        tree::make(lab, arch, hooked, &source, &library, &base, None).map_err(broken)?;
    let made = store.join(variant.name());
    if variant != hooked {
        stamp = tree::make(lab, arch, variant, &source, &library, &made, Some(&base))
            .map_err(broken)?;
    }
    if let Some(out) = out {
        install(arch, &made.join("build"), out).map_err(broken)?;
        return Ok(out.to_owned());
    }
    // Programs that were linked with it may be running: not written again for nothing.
    let root = made.join("root");
    let installed = made.join("installed");
    if std::fs::read_to_string(&installed).is_ok_and(|old| old == stamp) {
        return Ok(root);
    }
    install(arch, &made.join("build"), &root).map_err(broken)?;
    std::fs::write(installed, stamp).map_err(|why| broken(why.into()))?;
    Ok(root)
}

/// `librseq_rt_trio.a`.
fn library(lab: &Lab, arch: Arch) -> Result<PathBuf, Trouble> {
    let plan = staticlib::Plan { arch, trio: true };
    let out = lab.root.join(format!("target/musl/{arch}/librseq_rt"));
    staticlib::build(&lab.root, plan, &out, lab.install, &lab.progress)
}

/// The C compiler that musl's wraps.
fn compiler(arch: Arch) -> String {
    if Arch::host() == Some(arch) {
        "gcc".to_owned()
    } else {
        arch.cross_linker()
    }
}

/// Copies what programs need from a build.
fn install(arch: Arch, build: &Path, root: &Path) -> Result<()> {
    std::fs::create_dir_all(root.join("bin"))?;
    let root = std::fs::canonicalize(root)?;
    let mut make = command("make");
    make.current_dir(build)
        .args(["-s", "IMPH=", "prefix=", "syslibdir=/lib"])
        .arg(format!("DESTDIR={}", root.display()))
        .args(["install-libs", "install-headers"]);
    finish(&mut make, "make install")?;
    // musl's own is absolute.
    let loader = root.join(format!("lib/ld-musl-{arch}.so.1"));
    let _ = std::fs::remove_file(&loader);
    std::os::unix::fs::symlink("libc.so", &loader)?;
    specs::write(arch, &root)
}

/// Runs it; the tail of what it said where it failed.
fn finish(command: &mut std::process::Command, what: &str) -> Result<()> {
    let finished = process::run(command, Duration::from_secs(1200)).context(what.to_owned())?;
    ensure!(finished.ok(), "{what}: {}", finished.tail(12));
    Ok(())
}
