//! `cargo xtask musl`: musl from the distribution's source package, every thread registered.

mod insertion;
mod insertions;
mod specs;
mod tree;
mod variant;
mod vfork;

pub use variant::{Release, Variant};

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::arch::Arch;
use crate::context::Context;
use crate::install::{self, Need};
use crate::machine::source_package;
use crate::outcome::Missing;
use crate::process::{self, command, output};
use crate::staticlib;

/// `cargo xtask musl`
#[derive(clap::Args)]
pub struct Args {
    /// The CPU (default: this machine's).
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Where bin/musl-gcc, include/ and lib/ are made.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The Debian release whose source package is used: bookworm has musl 1.2.3, trixie 1.2.5.
    #[arg(long, value_enum, default_value = "bookworm")]
    release: Release,
    /// Programs register their threads only with MUSL_RSEQ=1 in their environment. Without this option they do unless it
    /// holds MUSL_RSEQ=0, for sandboxes that kill for rseq(2).
    #[arg(long, conflicts_with = "variant")]
    off: bool,
    /// For the tests: musl as it comes, or with a hook at the wrong place.
    #[arg(long, value_enum, default_value = "hooked", hide = true)]
    variant: Variant,
    /// Install and fetch nothing on this machine.
    #[arg(long)]
    no_install: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let cx = Context::new(!args.no_install, 600)?;
    let arch = Arch::or_host(args.arch)?;
    let variant = if args.off { Variant::Off } else { args.variant };
    let root = build(&cx, arch, variant, args.release, Some(&args.out))?;
    println!("{}", root.join("bin/musl-gcc").display());
    Ok(ExitCode::SUCCESS)
}

/// The folder of a musl with `bin/musl-gcc`, built once.
pub fn built(cx: &Context, release: Release, arch: Arch, variant: Variant) -> Result<PathBuf> {
    let key = format!("musl/{arch}/{}/{release:?}", variant.name());
    cx.once(key, || build(cx, arch, variant, release, None))
}

/// Builds that musl below target/musl if it is not there as it would be built now, and fills `out` or a folder there
/// with include/, lib/ and bin/musl-gcc. Returns the filled folder.
fn build(
    cx: &Context,
    arch: Arch,
    variant: Variant,
    release: Release,
    out: Option<&Path>,
) -> Result<PathBuf> {
    install::install(cx, &needs(arch));
    process::tool(&arch.tool("gcc"))?;
    let source = source_package(
        cx,
        "musl",
        "src/env/__init_tls.c",
        release.suites(),
        release.folder(),
    )
    .map_err(Missing::from)?;
    let store = release.within(&cx.root.join("target/musl").join(arch.name()));
    let trio = staticlib::Plan { arch, trio: true };
    let library = staticlib::build(cx, trio, &store.join("librseq_rt"))?;
    let base = store.join(Variant::Hooked.name());
    let make = |variant: Variant, base: Option<&Path>| {
        let folder = store.join(variant.name());
        tree::make(cx, arch, variant, &source, &library, &folder, base)
            .with_context(|| format!("musl for {arch}"))
    };
    let mut stamp = make(Variant::Hooked, None)?;
    if variant != Variant::Hooked {
        stamp = make(variant, Some(&base))?;
    }
    let made = store.join(variant.name());
    if let Some(out) = out {
        install_into(arch, &made.join("build"), out)?;
        return Ok(out.to_owned());
    }
    // Programs that were linked with it may be running: not written again for nothing.
    let root = made.join("root");
    let installed = made.join("installed");
    if std::fs::read_to_string(&installed).is_ok_and(|old| old == stamp) {
        return Ok(root);
    }
    install_into(arch, &made.join("build"), &root)?;
    std::fs::write(installed, stamp)?;
    Ok(root)
}

pub fn needs(arch: Arch) -> Vec<Need> {
    let why = "building musl";
    let mut needs = vec![
        Need::new("dpkg-source", &["dpkg-dev"], why),
        Need::new("make", &["make"], why),
        Need::new("gcc", &["gcc"], why),
    ];
    if Arch::host() != Some(arch) {
        let package = arch.cross_linker_package();
        needs.push(Need::new(arch.cross_linker(), &[package], why));
    }
    needs
}

/// Copies what programs need from a build.
fn install_into(arch: Arch, build: &Path, root: &Path) -> Result<()> {
    std::fs::create_dir_all(root.join("bin"))?;
    let root = std::fs::canonicalize(root)?;
    let mut make = command("make");
    make.current_dir(build)
        .args(["-s", "IMPH=", "prefix=", "syslibdir=/lib"])
        .arg(format!("DESTDIR={}", root.display()))
        .args(["install-libs", "install-headers"]);
    output(&mut make, "make install", 1200)?;
    // musl's own is absolute.
    let loader = root.join(format!("lib/ld-musl-{arch}.so.1"));
    let _ = std::fs::remove_file(&loader);
    std::os::unix::fs::symlink("libc.so", &loader)?;
    specs::write(arch, &root)
}
