//! `cargo xtask staticlib`: the C interface as one archive that a libc can link in, or as its assembly source.
//!
//! Cargo's archive holds the Rust runtime as global symbols, so that two such archives collide. This one has a single
//! object, in which only the interface is global.

pub mod assembly;
mod layout;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::arch::Arch;
use crate::context::Context;
use crate::elf::archive;
use crate::percpu_header;
use crate::process::tool;
pub use layout::Layout;

/// The version of the interface, which pkg-config compares.
const VERSION: &str = "0.1.0";

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub arch: Arch,
    /// With `__rseq_*`, for a libc.
    pub trio: bool,
}

impl Plan {
    /// The archive's name for `-l`. A trio linked by mistake would shadow the libc's own, so its name is one that
    /// nobody asks for by mistake.
    pub fn library(self) -> &'static str {
        if self.trio { "rseq_rt_trio" } else { "rseq_rt" }
    }

    fn folder(self) -> String {
        format!("{}-{}", self.arch, if self.trio { "trio" } else { "plain" })
    }

    /// The place of [`assembly`]'s file.
    pub fn assembly(self, out: &Path) -> PathBuf {
        out.join("share/rseq_rt").join(self.assembly_name())
    }

    fn assembly_name(self) -> String {
        format!("{}-{}.s", self.library(), self.arch)
    }

    /// Where [`built`] puts the archive.
    pub fn archive(self, out: &Path) -> PathBuf {
        out.join(format!("lib/lib{}.a", self.library()))
    }
}

/// The form of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Emit {
    /// LIBDIR/librseq_rt.a
    Archive,
    /// share/rseq_rt/rseq_rt-ARCH.s, for a build without a Rust compiler. Its first lines say how to make the archive.
    Asm,
}

/// `cargo xtask staticlib`
#[derive(clap::Args)]
pub struct Args {
    /// The CPU (default: this machine's).
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Output folder for lib/, include/ and share/. It may be moved: its pkg-config and CMake files are relative to it.
    #[arg(long, value_name = "DIR", required_unless_present = "prefix")]
    out: Option<PathBuf>,
    /// Install to PREFIX/LIBDIR, PREFIX/include and PREFIX/share, which the pkg-config and CMake files then name.
    #[arg(long, conflicts_with = "out")]
    prefix: Option<PathBuf>,
    /// The library folder in the prefix, such as lib64 or lib/x86_64-linux-gnu.
    #[arg(long, conflicts_with = "out", default_value = "lib")]
    libdir: PathBuf,
    /// Staging folder for the prefix, to make a package of it.
    #[arg(long, conflicts_with = "out")]
    destdir: Option<PathBuf>,
    /// The form of the library.
    #[arg(long, value_enum, default_value = "archive")]
    emit: Emit,
    /// Make librseq_rt_trio.a, which defines `__rseq_offset`, `__rseq_size` and `__rseq_flags`: the caller is the libc.
    #[arg(long)]
    trio: bool,
    /// Install no package on this machine.
    #[arg(long)]
    no_install: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let cx = Context::new(!args.no_install, 600)?;
    let arch = Arch::or_host(args.arch)?;
    let trio = args.trio;
    let layout = match (&args.out, &args.prefix) {
        (Some(out), _) => Layout::folder(out),
        (_, prefix) => {
            let prefix = prefix.as_deref().unwrap_or(Path::new("/usr/local"));
            Layout::installed(prefix, &args.libdir, args.destdir.as_deref())?
        }
    };
    let made = make(&cx, Plan { arch, trio }, args.emit, &layout)?;
    println!("{}", made.display());
    Ok(ExitCode::SUCCESS)
}

/// The folder with the archive for the tests, built once.
pub fn built(cx: &Context, arch: Arch, trio: bool) -> Result<PathBuf> {
    let plan = Plan { arch, trio };
    cx.once(format!("staticlib/{}", plan.folder()), || {
        let out = cx.root.join(format!("target/capi/{}/out", plan.folder()));
        make(cx, plan, Emit::Archive, &Layout::folder(&out))?;
        Ok(out)
    })
}

/// The compiler's options for a program with the archive in `out`, to stand behind its sources.
pub fn options(out: &Path) -> [String; 3] {
    let out = out.display();
    let library = "-lrseq_rt".to_owned();
    [format!("-I{out}/include"), format!("-L{out}/lib"), library]
}

/// The folder with the assembly file for the tests.
pub fn assembly(cx: &Context, arch: Arch, trio: bool) -> Result<PathBuf> {
    let plan = Plan { arch, trio };
    cx.once(format!("assembly/{}", plan.folder()), || {
        let out = cx.root.join(format!("target/capi/{}/asm", plan.folder()));
        make(cx, plan, Emit::Asm, &Layout::folder(&out))?;
        Ok(out)
    })
}

/// Fills the layout with the archive or the assembly file, the headers, the manual page, and the descriptions. Returns the
/// first.
pub fn make(cx: &Context, plan: Plan, emit: Emit, layout: &Layout) -> Result<PathBuf> {
    let work = tempfile::tempdir()?;
    let source = work.path().join(plan.assembly_name());
    let archive = work.path().join(format!("lib{}.a", plan.library()));
    std::fs::write(&source, assembly::text(cx, plan)?)?;
    // Neither form is installed unless the archive passes its checks.
    assembly::assemble(plan, tool(&plan.arch.tool("as"))?, &source, &archive)?;
    archive::check(&archive, plan.trio)?;

    let (lib, include, share) = (layout.lib(), layout.include(), layout.share());
    let (made, folder) = match emit {
        Emit::Archive => (archive, &lib),
        Emit::Asm => (source, &share),
    };
    let of_ours = |path: &str| cx.root.join(path);
    let mut files = vec![
        (made.clone(), folder.clone()),
        (of_ours("include/rseq_rt.h"), include.clone()),
        (of_ours("include/rseq_rt_percpu.h"), include.clone()),
        (of_ours(percpu_header::PATH), include.clone()),
        (of_ours("include/rseq_rt_structures.h"), include.clone()),
        (of_ours("include/rseq_rt_buffers.h"), include.clone()),
        (of_ours("docs/rseq_rt.3"), layout.man()),
    ];
    // The source that a shared library compiles in. A libc has hooks instead.
    if !plan.trio {
        files.extend([
            (of_ours("include/rseq_rt_library.h"), include),
            (of_ours("capi/library/rseq_rt_library.c"), share.clone()),
            (of_ours("capi/library/rseq_rt_library.map"), share.clone()),
        ]);
    }
    for (file, folder) in files {
        let name = file.file_name().unwrap_or_default();
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::copy(&file, folder.join(name)))
            .with_context(|| format!("{} to {}", file.display(), folder.display()))?;
    }
    layout.describe(plan)?;
    Ok(folder.join(made.file_name().unwrap_or_default()))
}
