//! The archive of each CPU: what is read from it, and C programs for that CPU, natively or under qemu-user.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::arch::Arch;
use crate::case::Case;
use crate::compiler::{has_libc, start_c};
use crate::context::Context;
use crate::elf::archive;
use crate::elf::hardening;
use crate::outcome::Outcome;
use crate::process::{optional_tool, output};
use crate::staticlib::{self, Plan};

/// The cases of that CPU. riscv64 has no mark of hardening that a toolchain of today would look for.
pub fn cases(arch: Arch) -> Vec<Case> {
    let plain = Archive { arch, trio: false };
    let trio = Archive { arch, trio: true };
    let mut cases = vec![
        Case::new("archive/plain", move |cx| plain.promises(cx)),
        Case::new("archive/trio", move |cx| trio.promises(cx)),
        Case::new("archive/alone", move |cx| plain.alone(cx)),
    ];
    if hardening::mark(arch).is_some() {
        cases.push(Case::new("archive/hardened", move |cx| plain.hardened(cx)));
    }
    cases.push(Case::new("archive/unwinds", move |cx| plain.unwinds(cx)));
    cases
}

/// A program without libc.
const ALONE: [&str; 3] = ["-nostdlib", "-static", "-fno-stack-protector"];

#[derive(Clone, Copy)]
struct Archive {
    arch: Arch,
    trio: bool,
}

impl Archive {
    /// The folder that it is in, and itself.
    fn built(self, cx: &Context) -> Result<(PathBuf, PathBuf)> {
        let Archive { arch, trio } = self;
        let out = staticlib::built(cx, arch, trio)?;
        let archive = Plan { arch, trio }.archive(&out);
        Ok((out, archive))
    }

    /// Links a program of `tests-qemu/capi`; the linker is to have nothing to say.
    fn link(self, cx: &Context, source: &str, flags: &[&str]) -> Result<Command> {
        let (out, archive) = self.built(cx)?;
        let file = out.join(source.replace(".c", ""));
        let mut link = optional_tool(&self.arch.tool("gcc"))?;
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
        start_c(self.arch, &file)
    }

    fn promises(self, cx: &Context) -> Result<Outcome> {
        let (_, archive) = self.built(cx)?;
        let count = archive::check(&archive, self.trio)?;
        Ok(Outcome::Passed(format!("{count} symbols")))
    }

    fn alone(self, cx: &Context) -> Result<Outcome> {
        self.link(cx, "alone.c", &ALONE)?;
        Ok(Outcome::passed())
    }

    /// The linker finds the mark that a hardened program wants of all its parts. The emulator enforces BTI; of IBT nobody
    /// is known to enforce it, and Linux does not, so the landing pads of x86_64 are read by `cargo xtask staticlib` alone.
    fn hardened(self, cx: &Context) -> Result<Outcome> {
        let hardening = match self.arch {
            Arch::X86_64 => ["-fcf-protection=full", "-Wl,-z,cet-report=error"],
            _ => ["-mbranch-protection=standard", "-Wl,-z,force-bti"],
        };
        let flags = [&ALONE[..], &hardening].concat();
        output(
            &mut self.link(cx, "hardened.c", &flags)?,
            "the program",
            120,
        )?;
        Ok(Outcome::passed())
    }

    /// An at-exit callback that ends the thread.
    fn unwinds(self, cx: &Context) -> Result<Outcome> {
        has_libc(self.arch)?;
        let flags = ["-pthread", "-fexceptions"];
        output(&mut self.link(cx, "unwind.c", &flags)?, "the program", 120)?;
        Ok(Outcome::passed())
    }
}
