//! `cargo xtask staticlib`: the C interface as one archive, made so that a libc can take it in.
//!
//! Cargo's archive holds the Rust runtime as global symbols, and two such archives
//! collide. Here the members become one object, in which nothing but the interface is global.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::arch::Arch;
use crate::archive;
use crate::cli::StaticlibArgs;
use crate::compiler::{self, Compiler};
use crate::hardening;
use crate::outcome::Trouble;
use crate::process::{self, command};
use crate::progress::Progress;

/// The interface's, which pkg-config compares.
const VERSION: &str = "0.1.0";

/// What to build.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// For which CPU.
    pub arch: Arch,
    /// With `__rseq_*`, for a libc.
    pub trio: bool,
}

impl Plan {
    /// What `-l` calls the archive. A trio by mistake would shadow the libc's own, so it has a name that nobody
    /// asks for by mistake.
    pub fn library(self) -> &'static str {
        if self.trio { "rseq_rt_trio" } else { "rseq_rt" }
    }

    /// Where [`build`] puts the archive.
    pub fn archive(self, out: &Path) -> PathBuf {
        out.join(format!("lib/lib{}.a", self.library()))
    }
}

/// Runs the command.
pub fn run(args: &StaticlibArgs) -> Result<ExitCode> {
    let lab = crate::lab::Lab::new(!args.no_install, 600)?;
    let Some(arch) = args.arch.or_else(Arch::host) else {
        bail!("this machine is none of the three CPUs: name one with --arch");
    };
    let plan = Plan {
        arch,
        trio: args.trio,
    };
    match build(&lab.root, plan, &args.out, lab.install, &lab.progress) {
        Ok(archive) => {
            println!("{}", archive.display());
            Ok(ExitCode::SUCCESS)
        }
        Err(trouble) => bail!("{trouble}"),
    }
}

/// Fills `out` with the archive, the header and the pkg-config file. Returns the archive.
pub fn build(
    root: &Path,
    plan: Plan,
    out: &Path,
    install: bool,
    progress: &Progress,
) -> Result<PathBuf, Trouble> {
    let compiler = compiler::find(plan.arch, install, progress)
        .map_err(|why| Trouble::Missing(format!("{why:#}")))?;
    let raw = compile(root, plan, &compiler)?;
    let lib = out.join("lib");
    let share = out.join("share/rseq_rt");
    let folders = [lib.join("pkgconfig"), out.join("include"), share];
    for folder in &folders {
        std::fs::create_dir_all(folder).map_err(|why| broken(folder, why))?;
    }
    let archive = plan.archive(out);
    localize(plan.arch, &raw, &archive)?;
    archive::check(&archive, plan.trio).map_err(Trouble::Broken)?;
    let mut files = vec![("include/rseq_rt.h", out.join("include/rseq_rt.h"))];
    let mut descriptions = vec![(format!("{}.pc", plan.library()), pkg_config(plan))];
    // What a shared library compiles in. A libc has hooks instead.
    if !plan.trio {
        let header = "include/rseq_rt_library.h";
        files.push((header, out.join(header)));
        for from in [
            "capi/library/rseq_rt_library.c",
            "capi/library/rseq_rt_library.map",
        ] {
            files.push((
                from,
                out.join(from.replace("capi/library", "share/rseq_rt")),
            ));
        }
        descriptions.push(("rseq_rt_library.pc".to_owned(), library_pkg_config()));
    }
    for (from, to) in files {
        std::fs::copy(root.join(from), &to).map_err(|why| broken(&to, why))?;
    }
    for (name, text) in descriptions {
        let pc = lib.join("pkgconfig").join(name);
        std::fs::write(&pc, text).map_err(|why| broken(&pc, why))?;
    }
    Ok(archive)
}

/// Cargo's own archive.
fn compile(root: &Path, plan: Plan, compiler: &Compiler) -> Result<PathBuf, Trouble> {
    // Unwind tables: an at-exit callback may end the thread, and the caller's cleanup handlers are to run.
    let mut flags = vec!["-Crelocation-model=pic", "-Cforce-unwind-tables=yes"];
    // aarch64's out-of-line atomics ask getauxval(3) in a constructor: neither is there while a libc starts.
    if plan.arch == Arch::Aarch64 {
        flags.push("-Ctarget-feature=-outline-atomics");
    }
    flags.extend(hardening::flag(plan.arch));
    let kind = if plan.trio { "trio" } else { "plain" };
    let folder = root.join(format!("target/capi/{}-{kind}", plan.arch));
    let mut cargo = compiler.build();
    cargo
        .current_dir(root)
        .args(["--quiet", "--release", "--package", "rseq-rt-capi"])
        .args(["--target", plan.arch.target(), "--target-dir"])
        .arg(&folder)
        .env("CARGO_TERM_COLOR", "never")
        // For the flag of `hardening`.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    if plan.trio {
        cargo.args(["--features", "trio"]);
    }
    finish(&mut cargo, "the C interface does not build")?;
    let built = folder.join(plan.arch.target()).join("release");
    Ok(built.join("librseq_rt_capi.a"))
}

/// One object, in which the interface alone is global, and hidden: whatever is linked with it keeps it to itself.
/// `__rseq_*` is what a libc exports.
///
/// Without `--gc-sections`: link-time optimisation has left nothing to collect, and riscv64's linker (2.40) spoils the
/// unwind tables when it collects.
fn localize(arch: Arch, raw: &Path, archive: &Path) -> Result<(), Trouble> {
    let roots = archive::interface(raw).map_err(Trouble::Broken)?;
    let work = tempfile::tempdir().map_err(|why| broken(raw, why))?;
    let write = |name: &str, content: &[u8]| {
        let path = work.path().join(name);
        std::fs::write(&path, content).map_err(|why| broken(&path, why))?;
        Ok(path)
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
    let mut assemble = tool(arch, "as")?;
    finish(assemble.arg(&hidden).arg("-o").arg(&references), "as")?;

    let object = work.path().join("rseq_rt.o");
    let mut link = tool(arch, "ld")?;
    link.args(["-r", "-o"]).arg(&object);
    link.args(roots.iter().map(|root| format!("--undefined={root}")));
    finish(link.arg(references).arg(raw), "ld -r")?;

    // Without debug information, which holds the paths of this machine.
    let mut hide = tool(arch, "objcopy")?;
    hide.arg("--strip-debug")
        .arg(format!("--keep-global-symbols={}", keep.display()));
    finish(hide.arg(&object), "objcopy")?;

    if let Some(note) = hardening::mark(arch) {
        hardening::check_pads(arch, &object).map_err(Trouble::Broken)?;
        let note = write("note", &note)?;
        let section = hardening::SECTION;
        // Some compilers have left a mark of their own.
        let mut forget = tool(arch, "objcopy")?;
        forget.arg(format!("--remove-section={section}"));
        finish(forget.arg(&object), "objcopy")?;
        let mut mark = tool(arch, "objcopy")?;
        mark.arg(format!("--add-section={section}={}", note.display()))
            .arg(format!("--set-section-flags={section}=alloc,readonly"))
            .arg(format!("--set-section-alignment={section}=8"));
        finish(mark.arg(&object), "objcopy")?;
    }

    // `ar r` adds to what is there.
    let _ = std::fs::remove_file(archive);
    let mut ar = tool(arch, "ar")?;
    ar.args(["-rcsD"]).arg(archive).arg(&object);
    finish(&mut ar, "ar")
}

/// What a program of the binutils for `arch` is called.
pub fn tool_name(arch: Arch, name: &str) -> String {
    if Arch::host() == Some(arch) {
        name.to_owned()
    } else {
        format!("{}-linux-gnu-{name}", arch.name())
    }
}

/// That program.
pub fn tool(arch: Arch, name: &str) -> Result<Command, Trouble> {
    let name = tool_name(arch, name);
    match which::which(&name) {
        Ok(path) => Ok(command(path)),
        Err(_) => Err(Trouble::Missing(format!("{name} is not installed"))),
    }
}

fn finish(command: &mut Command, what: &str) -> Result<(), Trouble> {
    let finished = process::run(command, Duration::from_secs(900))
        .map_err(|why| Trouble::Missing(format!("{what}: {why}")))?;
    if finished.ok() {
        Ok(())
    } else {
        Err(Trouble::Broken(format!("{what}: {}", finished.tail(8))))
    }
}

fn broken(path: &Path, why: std::io::Error) -> Trouble {
    Trouble::Broken(format!("{}: {why}", path.display()))
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
