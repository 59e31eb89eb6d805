//! `cargo xtask staticlib`: the C interface as one archive, made so that a libc can take it in.
//!
//! Cargo's archive holds the Rust runtime as global symbols, and two such archives
//! collide. Here the members become one object, in which nothing but the interface is global.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::arch::Arch;
use crate::compiler::{CORE, find, finish};
use crate::context::Context;
use crate::elf::{archive, hardening};
use crate::percpu_header;
use crate::process::{output, tool};

/// The interface's, which pkg-config compares.
const VERSION: &str = "0.1.0";

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub arch: Arch,
    /// With `__rseq_*`, for a libc.
    pub trio: bool,
}

impl Plan {
    /// The name of the archive for `-l`. A trio by mistake would shadow the libc's own, so it has a name that nobody
    /// asks for by mistake.
    pub fn library(self) -> &'static str {
        if self.trio { "rseq_rt_trio" } else { "rseq_rt" }
    }

    fn folder(self) -> String {
        format!("{}-{}", self.arch, if self.trio { "trio" } else { "plain" })
    }

    /// Where [`build`] puts the archive.
    pub fn archive(self, out: &Path) -> PathBuf {
        out.join(format!("lib/lib{}.a", self.library()))
    }
}

/// `cargo xtask staticlib`
#[derive(clap::Args)]
pub struct Args {
    /// The CPU (default: this machine's).
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Where lib/ and include/ are made.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Make librseq_rt_trio.a, which defines `__rseq_offset`, `__rseq_size` and `__rseq_flags`: the caller is the libc.
    #[arg(long)]
    trio: bool,
    /// Install nothing on this machine.
    #[arg(long)]
    no_install: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let cx = Context::new(!args.no_install, 600)?;
    let arch = args
        .arch
        .or_else(Arch::host)
        .context("this machine is none of the three CPUs: name one with --arch")?;
    let trio = args.trio;
    let archive = build(&cx, Plan { arch, trio }, &args.out)?;
    println!("{}", archive.display());
    Ok(ExitCode::SUCCESS)
}

/// The folder with the archive for the tests, built once.
pub fn built(cx: &Context, arch: Arch, trio: bool) -> Result<PathBuf> {
    let plan = Plan { arch, trio };
    cx.once(format!("staticlib/{}", plan.folder()), || {
        let out = cx.root.join(format!("target/capi/{}/out", plan.folder()));
        build(cx, plan, &out)?;
        Ok(out)
    })
}

/// Fills `out` with the archive, the header and the pkg-config file. Returns the archive.
pub fn build(cx: &Context, plan: Plan, out: &Path) -> Result<PathBuf> {
    let raw = compile(cx, plan)?;
    let lib = out.join("lib");
    let share = out.join("share/rseq_rt");
    for folder in [lib.join("pkgconfig"), out.join("include"), share] {
        std::fs::create_dir_all(folder)?;
    }
    let archive = plan.archive(out);
    localize(plan.arch, &raw, &archive)?;
    archive::check(&archive, plan.trio)?;
    let mut files = vec![
        ("include/rseq_rt.h", "include/rseq_rt.h"),
        ("include/rseq_rt_percpu.h", "include/rseq_rt_percpu.h"),
        (percpu_header::PATH, percpu_header::PATH),
        (
            "include/rseq_rt_structures.h",
            "include/rseq_rt_structures.h",
        ),
    ];
    let mut descriptions = vec![(format!("{}.pc", plan.library()), pkg_config(plan))];
    // What a shared library compiles in. A libc has hooks instead.
    if !plan.trio {
        files.extend([
            ("include/rseq_rt_library.h", "include/rseq_rt_library.h"),
            (
                "capi/library/rseq_rt_library.c",
                "share/rseq_rt/rseq_rt_library.c",
            ),
            (
                "capi/library/rseq_rt_library.map",
                "share/rseq_rt/rseq_rt_library.map",
            ),
        ]);
        descriptions.push(("rseq_rt_library.pc".to_owned(), library_pkg_config()));
    }
    for (from, to) in files {
        std::fs::copy(cx.root.join(from), out.join(to)).with_context(|| to.to_owned())?;
    }
    for (name, text) in descriptions {
        std::fs::write(lib.join("pkgconfig").join(name), text)?;
    }
    Ok(archive)
}

/// Cargo's own archive.
fn compile(cx: &Context, plan: Plan) -> Result<PathBuf> {
    // Unwind tables: an at-exit callback may end the thread, and the caller's cleanup handlers are to run.
    let mut flags = vec!["-Crelocation-model=pic", "-Cforce-unwind-tables=yes"];
    // aarch64's out-of-line atomics ask getauxval(3) in a constructor: neither is there while a libc starts.
    if plan.arch == Arch::Aarch64 {
        flags.push("-Ctarget-feature=-outline-atomics");
    }
    flags.extend(hardening::flag(plan.arch));
    let folder = cx.root.join("target/capi").join(plan.folder());
    let mut cargo = find(cx, plan.arch)?.cargo("build", CORE, plan.arch.target());
    cargo
        .args(["--quiet", "--package", "rseq-rt-capi", "--target-dir"])
        .arg(&folder)
        // For the flag of `hardening`.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    if plan.trio {
        cargo.args(["--features", "trio"]);
    }
    // Nothing is linked, so that it takes no linker of that CPU.
    cargo.current_dir(&cx.root).env("CARGO_TERM_COLOR", "never");
    finish(cargo)?.check("the C interface does not build")?;
    let built = folder.join(plan.arch.target()).join("release");
    Ok(built.join("librseq_rt_capi.a"))
}

/// One object, in which the interface alone is global, and hidden: whatever is linked with it keeps it to itself.
/// `__rseq_*` is what a libc exports.
///
/// Without `--gc-sections`: link-time optimisation has left nothing to collect, and riscv64's linker (2.40) spoils the
/// unwind tables when it collects.
fn localize(arch: Arch, raw: &Path, archive: &Path) -> Result<()> {
    let roots = archive::interface(raw)?;
    let work = tempfile::tempdir()?;
    let write = |name: &str, content: &[u8]| {
        let path = work.path().join(name);
        std::fs::write(&path, content)?;
        anyhow::Ok(path)
    };
    let keep = write("keep", (roots.join("\n") + "\n").as_bytes())?;

    // A reference that is hidden hides the definition it is linked with.
    let ours = roots
        .iter()
        .filter(|root| root.starts_with(archive::PREFIX));
    let mut hidden: String = ours.map(|root| format!(".hidden {root}\n")).collect();
    hidden += ".section .note.GNU-stack,\"\",%progbits\n";
    let hidden = write("hidden.s", hidden.as_bytes())?;
    let references = work.path().join("hidden.o");
    let mut assemble = tool(&arch.tool("as"))?;
    output(assemble.arg(&hidden).arg("-o").arg(&references), "as", 900)?;

    let object = work.path().join("rseq_rt.o");
    let mut link = tool(&arch.tool("ld"))?;
    link.args(["-r", "-o"]).arg(&object);
    link.args(roots.iter().map(|root| format!("--undefined={root}")));
    output(link.arg(references).arg(raw), "ld -r", 900)?;

    // Without debug information, which holds the paths of this machine.
    let mut hide = tool(&arch.tool("objcopy"))?;
    hide.arg("--strip-debug")
        .arg(format!("--keep-global-symbols={}", keep.display()));
    output(hide.arg(&object), "objcopy", 900)?;

    if let Some(note) = hardening::mark(arch) {
        hardening::check_pads(arch, &object)?;
        let note = write("note", &note)?;
        let section = hardening::SECTION;
        // Some compilers have left a mark of their own.
        let mut forget = tool(&arch.tool("objcopy"))?;
        forget.arg(format!("--remove-section={section}"));
        output(forget.arg(&object), "objcopy", 900)?;
        let mut mark = tool(&arch.tool("objcopy"))?;
        mark.arg(format!("--add-section={section}={}", note.display()))
            .arg(format!("--set-section-flags={section}=alloc,readonly"))
            .arg(format!("--set-section-alignment={section}=8"));
        output(mark.arg(&object), "objcopy", 900)?;
    }

    // `ar r` adds to what is there.
    let _ = std::fs::remove_file(archive);
    let mut ar = tool(&arch.tool("ar"))?;
    ar.args(["-rcsD"]).arg(archive).arg(&object);
    output(&mut ar, "ar", 900).map(drop)
}

/// The trio's declarations are for who defines it.
fn pkg_config(plan: Plan) -> String {
    let name = plan.library();
    let define = if plan.trio { " -DRSEQ_RT_TRIO" } else { "" };
    format!(
        "prefix=${{pcfiledir}}/../..\n\
         libdir=${{prefix}}/lib\n\
         includedir=${{prefix}}/include\n\
         \n\
         Name: {name}\n\
         Description: Thread create and exit hooks for restartable sequences\n\
         Version: {VERSION}\n\
         Cflags: -I${{includedir}}{define}\n\
         Libs: -L${{libdir}} -l{name}\n"
    )
}

/// For a shared library: its source is compiled in, its code stays, its symbols carry their version. That source, and not
/// the archive, calls the libc: dlvsym(3), which a glibc before 2.34 has in a library of its own, and pthread_key_create(3).
fn library_pkg_config() -> String {
    format!(
        "prefix=${{pcfiledir}}/../..\n\
         datadir=${{prefix}}/share/rseq_rt\n\
         source=${{datadir}}/rseq_rt_library.c\n\
         \n\
         Name: rseq_rt_library\n\
         Description: Restartable sequences for a shared library, beside other libraries\n\
         Version: {VERSION}\n\
         Requires: rseq_rt\n\
         Libs: -Wl,-z,nodelete -Wl,--version-script=${{datadir}}/rseq_rt_library.map -ldl -pthread\n"
    )
}
