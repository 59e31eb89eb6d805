//! The archive of each CPU: what is read from it, and C programs for that CPU, natively or under qemu-user.

use std::path::Path;
use std::process::Command;

use super::Selection;
use super::capi::{NAME, library};
use super::cprogram::{finish, tool};
use crate::arch::Arch;
use crate::archive;
use crate::install::Need;
use crate::lab::Lab;
use crate::outcome::{Outcome, Trouble, Verdict};
use crate::place::user_emulator;
use crate::process::command;
use crate::staticlib::Plan;

/// What becomes of one archive.
type Judge = fn(&Archive<'_>) -> Result<String, Verdict>;

/// The tests: the name, whether it is the archive that a libc takes, and what is done. Another one is another line.
const TESTS: [(&str, bool, Judge); 5] = [
    ("archive/plain", false, promises),
    ("archive/trio", true, promises),
    ("archive/alone", false, alone),
    ("archive/hardened", false, hardened),
    ("archive/unwinds", false, unwinds),
];

/// Those for `arch` that are wanted. riscv64 has no mark of hardening that a toolchain of today would look for.
pub fn wanted(selection: &Selection, arch: Arch) -> Vec<&'static str> {
    let here = selection.wants_arch(arch) && selection.wants_kernel_free();
    let tests = TESTS.into_iter().map(|(test, ..)| test);
    tests
        .filter(|&test| here && selection.wants(NAME, test))
        .filter(|&test| test != "archive/hardened" || crate::hardening::mark(arch).is_some())
        .collect()
}

/// What they need.
pub fn needs(lab: &Lab, arch: Arch) -> Vec<Need> {
    let mut needs = crate::compiler::needs(arch, lab.install, &lab.progress);
    if Arch::host() != Some(arch) {
        let why = format!("C programs for {arch}");
        let package = format!("libc6-dev-{}-cross", arch.debian());
        needs.push(Need::new(user_emulator(arch), &["qemu-user"], &why));
        needs.push(Need::new(libc_of(arch), &[package], why));
    }
    needs
}

/// Runs them.
pub fn run(lab: &Lab, arch: Arch, tests: &[&str]) -> Vec<Outcome> {
    let judge = |trio, judge: Judge| {
        let out = &library(lab, arch, trio).map_err(|why| why.verdict(true))?;
        let plan = Plan { arch, trio };
        judge(&Archive { lab, plan, out })
    };
    TESTS
        .into_iter()
        .filter(|(test, ..)| tests.contains(test))
        .map(|(test, trio, what)| {
            let verdict = judge(trio, what).map_or_else(|verdict| verdict, Verdict::Passed);
            Outcome::new(&super::link::cell(arch), NAME, test, verdict)
        })
        .collect()
}

/// One that was built.
struct Archive<'a> {
    lab: &'a Lab,
    plan: Plan,
    out: &'a Path,
}

impl Archive<'_> {
    /// Links a program of `tests-qemu/capi`; the linker is to have nothing to say.
    fn link(&self, source: &str, flags: &[&str]) -> Result<Command, Verdict> {
        let arch = self.plan.arch;
        let host = Arch::host() == Some(arch);
        let mut link = if host {
            tool("gcc")?
        } else {
            tool(&arch.cross_linker())?
        };
        let file = self.out.join(source.replace(".c", ""));
        link.args(["-O1", "-Wall", "-Wextra", "-Werror"])
            .args(flags)
            .arg("-o")
            .arg(&file)
            .arg("-I")
            .arg(self.out.join("include"))
            .arg(self.lab.root.join("tests-qemu/capi").join(source))
            .arg(self.plan.archive(self.out));
        let said = speak(&mut link, "the link")?;
        if !said.is_empty() {
            return Err(Verdict::Failed(said));
        }
        if host {
            return Ok(command(file));
        }
        // `max` has all that this CPU may have, BTI among it.
        let mut emulator = tool(&user_emulator(arch))?;
        emulator.args(["-cpu", if arch == Arch::Aarch64 { "max" } else { "rv64" }]);
        emulator.args(["-L", &format!("/usr/{arch}-linux-gnu")]);
        emulator.arg(file);
        Ok(emulator)
    }
}

/// A failure says what was said.
fn speak(command: &mut Command, what: &str) -> Result<String, Verdict> {
    finish(command, what).map_err(|(verdict, said)| match verdict {
        Verdict::Failed(why) if !said.is_empty() => Verdict::Failed(format!("{why}: {said}")),
        other => other,
    })
}

/// The cross compiler's libc.
fn libc_of(arch: Arch) -> String {
    format!("/usr/{arch}-linux-gnu/lib/libc.so.6")
}

fn promises(archive: &Archive<'_>) -> Result<String, Verdict> {
    archive::check(&archive.plan.archive(archive.out), archive.plan.trio).map_err(Verdict::Failed)
}

/// A program without libc.
fn alone(archive: &Archive<'_>) -> Result<String, Verdict> {
    let flags = ["-nostdlib", "-static", "-fno-stack-protector"];
    archive.link("alone.c", &flags).map(|_| String::new())
}

/// The linker finds the mark that a hardened program wants of all its parts. The emulator enforces BTI; of IBT nobody is
/// known to enforce it, and Linux does not, so the landing pads of x86_64 are read by `cargo xtask staticlib` alone.
fn hardened(archive: &Archive<'_>) -> Result<String, Verdict> {
    let [protect, insist] = match archive.plan.arch {
        Arch::X86_64 => ["-fcf-protection=full", "-Wl,-z,cet-report=error"],
        _ => ["-mbranch-protection=standard", "-Wl,-z,force-bti"],
    };
    let flags = [
        "-nostdlib",
        "-static",
        "-fno-stack-protector",
        protect,
        insist,
    ];
    let mut program = archive.link("hardened.c", &flags)?;
    speak(&mut program, "the program").map(|_| String::new())
}

/// An at-exit callback that ends the thread.
fn unwinds(archive: &Archive<'_>) -> Result<String, Verdict> {
    if Arch::host() != Some(archive.plan.arch) && !Path::new(&libc_of(archive.plan.arch)).exists() {
        let why = format!("{} is not installed", libc_of(archive.plan.arch));
        return Err(Trouble::Missing(why).verdict(true));
    }
    let mut program = archive.link("unwind.c", &["-pthread", "-fexceptions"])?;
    speak(&mut program, "the program").map(|_| String::new())
}
