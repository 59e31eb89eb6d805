//! `cargo xtask musl`: musl with every thread registered, as a build or as a patch.

mod insertion;
mod insertions;
mod patch;
mod percpu;
mod places;
mod source;
mod specs;
mod tree;
mod variant;
mod vfork;

pub use source::{Release, Source};
pub use variant::Variant;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use self::variant::Malloc;
use crate::arch::Arch;
use crate::context::Context;
use crate::install::{self, Need};
use crate::process::{self, command, output};
use crate::staticlib::{self, Emit, Layout};

/// `cargo xtask musl`
#[derive(clap::Args)]
pub struct Args {
    /// The CPU (default: this machine's).
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Output folder, for bin/musl-gcc, include/ and lib/.
    #[arg(long, value_name = "DIR", required_unless_present = "patch")]
    out: Option<PathBuf>,
    /// The Debian release whose source package is used: bookworm has musl 1.2.3, trixie 1.2.5, forky 1.2.6.
    #[arg(long, value_enum, default_value = "bookworm")]
    release: Release,
    /// Musl's source, a release from 1.2.3 on or a clone of its repository, instead of a source package; only read.
    #[arg(long, value_name = "DIR", conflicts_with = "release")]
    source: Option<PathBuf>,
    /// Write the changes to that source, for all CPUs, as a patch for `patch -p1` and `git am`. Its message explains
    /// the place of each line, and how to build the patched source.
    #[arg(long, value_name = "FILE")]
    patch: Option<PathBuf>,
    /// Programs register their threads only with MUSL_RSEQ=1 in their environment. Without this option they do unless
    /// it holds MUSL_RSEQ=0, for sandboxes that kill for rseq(2).
    #[arg(long, conflicts_with = "variant")]
    off: bool,
    /// The allocator. `percpu`: free blocks are cached for each CPU, for programs with many threads.
    #[arg(long, value_enum, default_value = "stock", conflicts_with_all = ["off", "variant"])]
    malloc: Malloc,
    /// For the tests: stock musl, or one with a misplaced hook.
    #[arg(long, value_enum, default_value = "hooked", hide = true)]
    variant: Variant,
    /// Install and fetch nothing on this machine.
    #[arg(long)]
    no_install: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let cx = Context::new(!args.no_install, 600)?;
    let arch = Arch::or_host(args.arch)?;
    let variant = match args.malloc {
        Malloc::Percpu => Variant::Percpu,
        Malloc::Stock if args.off => Variant::Off,
        Malloc::Stock => args.variant,
    };
    let source = Source::new(args.source.as_deref(), args.release)?;
    if let Some(file) = &args.patch {
        patch(&cx, &source, variant, file)?;
        println!("{}", file.display());
    }
    if let Some(out) = &args.out {
        let root = build(&cx, arch, variant, &source, Some(out))?;
        println!("{}", root.join("bin/musl-gcc").display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder of a musl with `bin/musl-gcc`, built once.
pub fn built(
    cx: &Context,
    source: impl Into<Source>,
    arch: Arch,
    variant: Variant,
) -> Result<PathBuf> {
    let source = source.into();
    let key = format!("musl/{arch}/{}/{source:?}", variant.name());
    cx.once(key, || build(cx, arch, variant, &source, None))
}

/// Writes the changes to that source as a patch.
pub fn patch(cx: &Context, source: &Source, variant: Variant, file: &Path) -> Result<()> {
    install::install(
        cx,
        &[Need::new("dpkg-source", &["dpkg-dev"], "musl's source")],
    );
    patch::write(cx, &source.fetched(cx)?, variant, file)
}

/// Writes that source with the insertions to a new folder.
pub fn inserted(cx: &Context, source: &Source, variant: Variant, folder: &Path) -> Result<()> {
    let source = source.fetched(cx)?;
    tree::fill(&source, &tree::contents(cx, &source, variant)?, folder)
}

/// Builds that musl below target/musl unless an identical build is there, and fills `out`, or a folder there, with
/// include/, lib/ and bin/musl-gcc. Returns the filled folder.
fn build(
    cx: &Context,
    arch: Arch,
    variant: Variant,
    source: &Source,
    out: Option<&Path>,
) -> Result<PathBuf> {
    install::install(cx, &needs(arch));
    process::tool(&arch.tool("gcc"))?;
    let store = source.within(&cx.root.join("target/musl").join(arch.name()));
    let source = source.fetched(cx)?;
    let make = |variant: Variant, library: &Path, base: Option<&Path>| {
        let folder = store.join(variant.name());
        tree::make(cx, arch, variant, &source, library, &folder, base)
            .with_context(|| format!("musl for {arch}"))
    };
    // The common base of all variants, which are built concurrently.
    let key = format!("musl-base/{}", store.display());
    let (library, mut stamp) = cx.once(key, || {
        let trio = staticlib::Plan { arch, trio: true };
        let layout = Layout::folder(&store.join("librseq_rt"));
        let library = staticlib::make(cx, trio, Emit::Asm, &layout)?;
        let stamp = make(Variant::Hooked, &library, None)?;
        Ok((library, stamp))
    })?;
    if variant != Variant::Hooked {
        let base = store.join(Variant::Hooked.name());
        stamp = make(variant, &library, Some(&base))?;
    }
    let made = store.join(variant.name());
    if let Some(out) = out {
        install_into(arch, &made.join("build"), out)?;
        return Ok(out.to_owned());
    }
    // Not rewritten without need: programs linked with it may be running.
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

/// Copies the installed files of a build.
fn install_into(arch: Arch, build: &Path, root: &Path) -> Result<()> {
    std::fs::create_dir_all(root.join("bin"))?;
    let root = std::fs::canonicalize(root)?;
    let mut make = command("make");
    make.current_dir(build)
        .args(["-s", "IMPH=", "prefix=", "syslibdir=/lib"])
        .arg(format!("DESTDIR={}", root.display()))
        .args(["install-libs", "install-headers"]);
    output(&mut make, "make install", 1200)?;
    // musl's own link is absolute.
    let loader = root.join(format!("lib/ld-musl-{arch}.so.1"));
    let _ = std::fs::remove_file(&loader);
    std::os::unix::fs::symlink("libc.so", &loader)?;
    specs::write(arch, &root)
}
