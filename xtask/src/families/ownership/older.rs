//! The owner of rseq in a program linked against a libc without `__rseq_*` and run on one with them, by each linker,
//! for each kind of program. Linkers treat an undefined weak reference differently.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::arch::Arch;
use crate::case::{Case, Family};
use crate::cell::At;
use crate::context::Context;
use crate::install::Need;
use crate::outcome::Missing;
use crate::process::{command, optional_tool, output, set_glibc_rseq};
use crate::staticlib;

pub const OLDER_LIBC: Family = Family {
    name: "older-libc",
    cases,
    needs,
};

/// Each linker: its name for `-fuse-ld`, program, and packages.
const LINKERS: [(&str, &str, &[&str]); 4] = [
    ("bfd", "ld.bfd", &["binutils"]),
    ("gold", "ld.gold", &["binutils-gold", "binutils"]),
    ("lld", "ld.lld", &["lld"]),
    ("mold", "ld.mold", &["mold"]),
];

/// Kinds of program. A static one contains its libc, so that it never meets another.
const KINDS: [(&str, &[&str]); 3] = [
    ("no-pie", &["-no-pie", "-fno-pie"]),
    ("pie", &["-pie", "-fPIE"]),
    ("static-pie", &["-static-pie", "-fPIE"]),
];

/// The expected owner, and whether glibc registers.
const OWNERS: [(&str, bool); 2] = [("libc", true), ("runtime", false)];

fn cases(_: &Context, at: At) -> Result<Vec<Case>> {
    let At::Libcs(arch) = at else {
        return Ok(vec![]);
    };
    let mut cases = Vec::new();
    for (linker, program, _) in LINKERS {
        for (kind, flags) in KINDS {
            cases.push(Case::new(format!("{linker}/{kind}"), move |cx| {
                optional_tool(program)?;
                if (linker, kind) == ("gold", "static-pie") {
                    return Err(Missing::optional("gold makes no static-pie"));
                }
                judge(cx, arch, linker, kind, flags)
            }));
        }
    }
    Ok(cases)
}

fn needs(_: &Context, _: At) -> Vec<Need> {
    let why = "a program by each linker";
    let linkers = LINKERS.map(|(_, program, packages)| Need::new(program, packages, why));
    let gcc = Need::new("gcc", &["gcc", "libc6-dev"], why);
    linkers.into_iter().chain([gcc]).collect()
}

fn judge(cx: &Context, arch: Arch, linker: &str, kind: &str, flags: &[&str]) -> Result<()> {
    let out = staticlib::built(cx, arch, false)?;
    let sources = cx.root.join("tests-qemu/ownership");
    let file = out.join(format!("older-{linker}-{kind}"));
    let mut link = optional_tool("gcc")?;
    link.args(["-O1", "-Wall", "-Wextra", "-Werror"])
        .arg(format!("-fuse-ld={linker}"))
        .args(flags)
        .arg(sources.join("older.c"))
        .args(staticlib::options(&out));
    if kind != "static-pie" {
        link.arg("-nodefaultlibs").arg(stand_in(&sources, &out)?);
    }
    output(link.arg("-o").arg(&file), "does not link", 120)?;
    for (owner, libc_on) in OWNERS {
        let mut started = command(&file);
        set_glibc_rseq(started.arg(owner), libc_on);
        output(&mut started, &format!("where {owner} owns"), 120)?;
    }
    Ok(())
}

/// A libc.so.6 for the linker only.
fn stand_in(sources: &Path, out: &Path) -> Result<PathBuf> {
    let file = out.join("older-libc.so");
    let mut link = optional_tool("gcc")?;
    link.args(["-shared", "-nostdlib", "-fno-builtin"])
        .args(["-Wl,-soname,libc.so.6", "-o"])
        .arg(&file)
        .arg(sources.join("older_libc.c"));
    output(&mut link, "the libc to link with", 120)?;
    Ok(file)
}
