//! Who owns rseq in a program that was linked where the libc has no `__rseq_*` and runs where it has them: by each
//! linker, for each kind of program. What a linker does with a weak reference that nobody defines is its own choice.

use std::path::{Path, PathBuf};

use super::capi::library;
use super::cprogram::{finish, tool};
use super::{Family, Job, Selection, ownership};
use crate::arch::Arch;
use crate::install::Need;
use crate::lab::Lab;
use crate::outcome::{Cell, Outcome, Verdict};
use crate::process::command;

/// The family.
pub struct OlderLibc;

const NAME: &str = "older-libc";

/// What `-fuse-ld` calls it, its program, and the packages with it.
const LINKERS: [(&str, &str, &[&str]); 4] = [
    ("bfd", "ld.bfd", &["binutils"]),
    ("gold", "ld.gold", &["binutils-gold", "binutils"]),
    ("lld", "ld.lld", &["lld"]),
    ("mold", "ld.mold", &["mold"]),
];

/// What is linked. A static program takes its libc along, so that no other one is met later.
const KINDS: [(&str, &[&str]); 3] = [
    ("no-pie", &["-no-pie", "-fno-pie"]),
    ("pie", &["-pie", "-fPIE"]),
    ("static-pie", &["-static-pie", "-fPIE"]),
];

/// The owner that the program is to find, and whether glibc is let register.
const OWNERS: [(&str, bool); 2] = [("libc", true), ("runtime", false)];

impl Family for OlderLibc {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self, lab: &Lab, selection: &Selection) -> Vec<Need> {
        if self.list(lab, selection).is_empty() {
            return Vec::new();
        }
        let why = "a program by each linker";
        let linkers = LINKERS.map(|(_, program, packages)| Need::new(program, packages, why));
        let gcc = Need::new("gcc", &["gcc", "libc6-dev"], why);
        linkers.into_iter().chain([gcc]).collect()
    }

    fn list(&self, _: &Lab, selection: &Selection) -> Vec<(Cell, String)> {
        let Some(cell) = ownership::cell(selection) else {
            return Vec::new();
        };
        let linked = LINKERS.iter().flat_map(|linker| {
            let test = |kind: &(&str, _)| format!("{}/{}", linker.0, kind.0);
            KINDS.iter().map(test)
        });
        linked
            .filter(|test| selection.wants(NAME, test))
            .map(|test| (cell.clone(), test))
            .collect()
    }

    fn jobs<'lab>(&self, lab: &'lab Lab, selection: &Selection) -> Vec<Job<'lab>> {
        let tests = self.list(lab, selection);
        if tests.is_empty() {
            return Vec::new();
        }
        let work = move || {
            let arch = Arch::host().ok_or(Verdict::Missing("not one of the three CPUs".to_owned()));
            let out =
                arch.and_then(|arch| library(lab, arch, false).map_err(|why| why.verdict(true)));
            let judged = |test: &String| {
                let verdict = out.clone().and_then(|out| judge(lab, &out, test));
                verdict.map_or_else(|verdict| verdict, Verdict::Passed)
            };
            let outcomes = tests
                .iter()
                .map(|(cell, test)| Outcome::new(cell, NAME, test, judged(test)));
            outcomes.collect()
        };
        vec![Job::alone("ownership where the libc was older", work)]
    }
}

fn judge(lab: &Lab, out: &Path, test: &str) -> Result<String, Verdict> {
    let mut words = test.split('/');
    let (linker, kind) = (words.next(), words.next());
    let chosen = LINKERS.iter().find(|one| Some(one.0) == linker);
    let kind = KINDS.iter().find(|one| Some(one.0) == kind);
    let (Some(&(linker, program, _)), Some(&(kind, flags))) = (chosen, kind) else {
        return Err(Verdict::Failed("no such test".to_owned()));
    };
    tool(program)?;
    if (linker, kind) == ("gold", "static-pie") {
        return Err(Verdict::Skipped("gold makes no static-pie".to_owned()));
    }
    let sources = lab.root.join("tests-qemu/ownership");
    let file = out.join(format!("older-{linker}-{kind}"));
    let mut link = tool("gcc")?;
    link.args(["-O1", "-Wall", "-Wextra", "-Werror"])
        .arg(format!("-fuse-ld={linker}"))
        .args(flags)
        .arg("-I")
        .arg(out.join("include"))
        .arg(sources.join("older.c"))
        .arg("-L")
        .arg(out.join("lib"))
        .arg("-lrseq_rt");
    if kind != "static-pie" {
        link.arg("-nodefaultlibs").arg(stand_in(&sources, out)?);
    }
    link.arg("-o").arg(&file);
    finish(&mut link, "does not link").map_err(with_output)?;
    for (owner, libc_on) in OWNERS {
        let mut started = command(&file);
        let tunable = format!("glibc.pthread.rseq={}", u8::from(libc_on));
        started.arg(owner).env("GLIBC_TUNABLES", tunable);
        finish(&mut started, &format!("where {owner} owns")).map_err(with_output)?;
    }
    Ok(String::new())
}

fn with_output((verdict, said): (Verdict, String)) -> Verdict {
    match verdict {
        Verdict::Failed(why) if !said.is_empty() => Verdict::Failed(format!("{why}: {said}")),
        other => other,
    }
}

/// A libc.so.6 for the linker alone.
fn stand_in(sources: &Path, out: &Path) -> Result<PathBuf, Verdict> {
    let file = out.join("older-libc.so");
    let mut link = tool("gcc")?;
    link.args([
        "-shared",
        "-nostdlib",
        "-fno-builtin",
        "-Wl,-soname,libc.so.6",
        "-o",
    ])
    .arg(&file)
    .arg(sources.join("older_libc.c"));
    finish(&mut link, "the libc to link with").map_err(with_output)?;
    Ok(file)
}
