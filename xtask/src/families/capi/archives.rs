//! The archive of each CPU: its symbols and code, and C programs for that CPU, run natively or under qemu-user.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::arch::Arch;
use crate::case::Case;
use crate::compiler::{has_libc, start_c};
use crate::context::Context;
use crate::elf::archive::{self, Symbols};
use crate::elf::hardening;
use crate::process::{optional_tool, output};
use crate::staticlib::{self, Plan, assembly};

/// The cases of that CPU. riscv64 has no hardening property that a current toolchain checks.
pub fn cases(arch: Arch) -> Vec<Case> {
    let mut cases = vec![
        Case::new("archive/plain", move |cx| promises(cx, arch, false)),
        Case::new("archive/trio", move |cx| promises(cx, arch, true)),
        Case::new("archive/alone", move |cx| {
            link(cx, arch, "alone.c", &ALONE, &plain(cx, arch)?)?;
            Ok(())
        }),
    ];
    if hardening::mark(arch).is_some() {
        cases.push(Case::new("archive/hardened", move |cx| {
            hardened(cx, arch, &plain(cx, arch)?)
        }));
    }
    cases.push(Case::new("archive/unwinds", move |cx| unwinds(cx, arch)));
    cases.push(Case::new("archive/from-asm", move |cx| from_asm(cx, arch)));
    cases.push(Case::new("percpu/far", move |cx| far(cx, arch)));
    cases
}

fn plain(cx: &Context, arch: Arch) -> Result<PathBuf> {
    Ok(Plan { arch, trio: false }.archive(&staticlib::built(cx, arch, false)?))
}

/// An object with more text than a branch reaches. riscv64 has no longer branch: there it takes `-ffunction-sections`.
fn far(cx: &Context, arch: Arch) -> Result<()> {
    let mut compile = optional_tool(&arch.tool("gcc"))?;
    compile
        .args(["-O1", "-c", "-o", "/dev/null", "-I"])
        .arg(cx.root.join("include"))
        .arg(cx.root.join("tests-qemu/capi/far.c"));
    if arch == Arch::Riscv64 {
        compile.arg("-ffunction-sections");
    }
    output(&mut compile, "does not compile", 120).map(drop)
}

fn promises(cx: &Context, arch: Arch, trio: bool) -> Result<String> {
    let out = staticlib::built(cx, arch, trio)?;
    let count = archive::check(&Plan { arch, trio }.archive(&out), trio)?;
    Ok(format!("{count} symbols"))
}

/// The assembly file yields the same archive with a C user's compilers.
fn from_asm(cx: &Context, arch: Arch) -> Result<()> {
    let target = format!("--target={arch}-linux-gnu");
    for trio in [false, true] {
        let plan = Plan { arch, trio };
        let usual = Symbols::read(&plan.archive(&staticlib::built(cx, arch, trio)?))?;
        let out = staticlib::assembly(cx, arch, trio)?;
        for (name, flag) in [
            (arch.tool("gcc"), None),
            ("clang".to_owned(), Some(&target)),
        ] {
            let mut compiler = optional_tool(&name)?;
            compiler.arg("-c").args(flag);
            let archive = out.join(format!("{name}.a"));
            assembly::assemble(plan, compiler, &plan.assembly(&out), &archive)?;
            archive::check(&archive, trio)?;
            ensure!(Symbols::read(&archive)? == usual, "{name}: other symbols");
            if !trio && hardening::mark(arch).is_some() {
                hardened(cx, arch, &archive)?;
            }
        }
    }
    Ok(())
}

/// A program without libc.
const ALONE: [&str; 3] = ["-nostdlib", "-static", "-fno-stack-protector"];

/// Links a program of `tests-qemu/capi`; a linker warning is an error. Returns the command that starts it.
fn link(cx: &Context, arch: Arch, source: &str, flags: &[&str], archive: &Path) -> Result<Command> {
    let out = staticlib::built(cx, arch, false)?;
    let file = out.join(source.replace(".c", ""));
    let mut link = optional_tool(&arch.tool("gcc"))?;
    link.args(["-O1", "-Wall", "-Wextra", "-Werror"])
        .args(flags)
        .arg("-o")
        .arg(&file)
        .arg("-I")
        .arg(out.join("include"))
        .arg(cx.root.join("tests-qemu/capi").join(source))
        .arg(archive);
    let said = output(&mut link, "the link", 120)?;
    ensure!(said.is_empty(), "{said}");
    start_c(arch, &file)
}

/// The linker finds the property that a hardened program requires of all objects. The emulator enforces BTI; no
/// emulator is known to enforce IBT, nor does Linux, so only `cargo xtask staticlib` checks x86_64's landing pads.
fn hardened(cx: &Context, arch: Arch, archive: &Path) -> Result<()> {
    let hardening = match arch {
        Arch::X86_64 => ["-fcf-protection=full", "-Wl,-z,cet-report=error"],
        _ => ["-mbranch-protection=standard", "-Wl,-z,force-bti"],
    };
    let flags = [&ALONE[..], &hardening].concat();
    output(
        &mut link(cx, arch, "hardened.c", &flags, archive)?,
        "the program",
        120,
    )?;
    Ok(())
}

/// An at-exit callback that ends the thread.
fn unwinds(cx: &Context, arch: Arch) -> Result<()> {
    has_libc(arch)?;
    let flags = ["-pthread", "-fexceptions"];
    let mut program = link(cx, arch, "unwind.c", &flags, &plain(cx, arch)?)?;
    output(&mut program, "the program", 120)?;
    Ok(())
}
