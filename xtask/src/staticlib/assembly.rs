//! The C interface as one assembly file, for GNU as and clang, and the archive made of it.
//!
//! Everything but a few directives is rustc's output. Only the interface is global in it, and hidden, so that objects
//! linked with it do not export it. `__rseq_*` is exported for a libc.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Plan, VERSION};
use crate::arch::Arch;
use crate::compiler::{self, CORE};
use crate::context::Context;
use crate::elf::archive::{PREFIX, TRIO};
use crate::elf::hardening;
use crate::process::{output, tool};

/// The text of the file.
pub fn text(cx: &Context, plan: Plan) -> Result<String> {
    let written = compile(cx, plan)?;
    let written = std::fs::read_to_string(&written)
        .with_context(|| format!("{}: remove that folder", written.display()))?;
    Ok(adapt(plan, &written))
}

/// rustc's output with LTO and one codegen unit: all crates in one file. Without debug information, which is DWARF 5
/// and contains paths of this machine.
fn compile(cx: &Context, plan: Plan) -> Result<PathBuf> {
    // Unwind tables: an at-exit callback may end the thread, and then the caller's cleanup handlers must run.
    let mut flags = vec!["-Crelocation-model=pic", "-Cforce-unwind-tables=yes"];
    // aarch64's out-of-line atomics call getauxval(3) in a constructor: neither works while a libc starts.
    if plan.arch == Arch::Aarch64 {
        flags.push("-Ctarget-feature=-outline-atomics");
    }
    flags.extend(hardening::flag(plan.arch));
    let folder = cx.root.join("target/capi").join(plan.folder());
    let file = folder.join("rseq_rt.s");
    let mut cargo = compiler::find(cx, plan.arch)?.cargo("rustc", CORE, plan.arch.target());
    cargo
        .args(["--quiet", "--package", "rseq-rt-capi", "--target-dir"])
        .arg(&folder)
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        // For the unstable flag of `hardening`.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    if plan.trio {
        cargo.args(["--features", "trio"]);
    }
    cargo
        .arg("--")
        .arg(format!("--emit=asm={}", file.display()));
    // Nothing is linked, so no linker of that CPU is needed.
    cargo.current_dir(&cx.root).env("CARGO_TERM_COLOR", "never");
    compiler::finish(cargo)?.check("the C interface does not build")?;
    Ok(file)
}

fn adapt(plan: Plan, written: &str) -> String {
    let library = plan.library();
    let name = plan.assembly_name();
    let mut text = format!(
        "/*\n \
         * {name}: lib{library}.a {VERSION} for {arch} in assembly, for a build without a Rust compiler.\n \
         *\n \
         *     cc -c {name} -o {library}.o && ar rcs lib{library}.a {library}.o\n \
         *\n \
         * The pkg-config and CMake files look for the archive in the lib folder.\n \
         *\n \
         * SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT\n \
         */\n",
        arch = plan.arch,
    );
    let mut interface = Vec::new();
    let mut in_mark = false;
    for line in written.lines() {
        if line.starts_with("\t.section") || line.starts_with("\t.text") {
            in_mark = line.contains(hardening::SECTION);
        }
        let global = line.strip_prefix("\t.globl\t");
        let is_ours = |name: &&str| name.starts_with(PREFIX) || TRIO.contains(name);
        interface.extend(global.filter(is_ours));
        let line = match line {
            // Some compilers have left such a property already.
            _ if in_mark => continue,
            _ if global.is_some_and(|name| !is_ours(&name)) => continue,
            // Most assemblers do not know the names of an extension's parts. No linker relaxation, as in rustc's own
            // objects.
            _ if line.starts_with("\t.attribute\t5,") => {
                "\t.attribute\t5, \"rv64gc\"\n\t.option\tnorelax"
            }
            _ => line,
        };
        text += line;
        text += "\n";
    }
    for name in interface.iter().filter(|name| name.starts_with(PREFIX)) {
        text += &format!("\t.hidden\t{name}\n");
    }
    if let Some(note) = hardening::mark(plan.arch) {
        let bytes: Vec<_> = note.iter().map(u8::to_string).collect();
        text += &format!(
            "\t.section\t{},\"a\",@note\n\t.p2align\t3\n\t.byte\t{}\n",
            hardening::SECTION,
            bytes.join(", ")
        );
    }
    text
}

/// Makes the archive with this assembler: a command that takes `FILE -o OBJECT`.
pub fn assemble(plan: Plan, mut assembler: Command, file: &Path, archive: &Path) -> Result<()> {
    let work = tempfile::tempdir()?;
    let object = work.path().join(format!("{}.o", plan.library()));
    output(assembler.arg(file).arg("-o").arg(&object), "assembler", 900)?;
    hardening::check_pads(plan.arch, &object)?;
    // `ar r` adds to an existing archive.
    let _ = std::fs::remove_file(archive);
    let mut ar = tool(&plan.arch.tool("ar"))?;
    ar.args(["-rcsD"]).arg(archive).arg(&object);
    output(&mut ar, "ar", 900).map(drop)
}
