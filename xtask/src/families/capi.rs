//! The C interface: the archive on each CPU, and C programs that use it under the host's glibc.

use std::path::{Path, PathBuf};

use super::cprogram::{PROGRAMS, finish, run, tool};
use super::{Family, Job, Selection, archives};
use crate::arch::Arch;
use crate::archive::{self, Symbols};
use crate::install::Need;
use crate::lab::Lab;
use crate::outcome::{Cell, Outcome, Trouble, Verdict};
use crate::staticlib::{self, Plan};

/// The family.
pub struct Capi;

pub(super) const NAME: &str = "capi";

/// Further tests on the host.
const MORE: [&str; 2] = ["header/names", "shared-object"];

impl Family for Capi {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self, lab: &Lab, selection: &Selection) -> Vec<Need> {
        let mut needs = Vec::new();
        for arch in Arch::ALL {
            if !archives::wanted(selection, arch).is_empty() {
                needs.extend(archives::needs(lab, arch));
            }
        }
        needs
    }

    fn list(&self, _: &Lab, selection: &Selection) -> Vec<(Cell, String)> {
        let mut listed = Vec::new();
        for arch in Arch::ALL {
            let tests = archives::wanted(selection, arch);
            listed.extend(tests.map_cell(&super::link::cell(arch)));
        }
        if let Some((_, cell)) = host(selection) {
            listed.extend(wanted_programs(selection).map_cell(&cell));
        }
        listed
    }

    fn jobs<'lab>(&self, lab: &'lab Lab, selection: &Selection) -> Vec<Job<'lab>> {
        let mut jobs = Vec::new();
        for arch in Arch::ALL {
            let tests = archives::wanted(selection, arch);
            if !tests.is_empty() {
                let work = move || archives::run(lab, arch, &tests);
                jobs.push(Job::alone(format!("C archives for {arch}"), work));
            }
        }
        let tests = wanted_programs(selection);
        if let (Some((arch, cell)), false) = (host(selection), tests.is_empty()) {
            let work = move || programs(lab, arch, &cell, &tests);
            jobs.push(Job::alone("C programs".to_owned(), work));
        }
        jobs
    }
}

/// Names of tests, put into a column.
trait MapCell {
    fn map_cell(self, cell: &Cell) -> Vec<(Cell, String)>;
}

impl MapCell for Vec<&'static str> {
    fn map_cell(self, cell: &Cell) -> Vec<(Cell, String)> {
        let at = |test: &str| (cell.clone(), test.to_owned());
        self.into_iter().map(at).collect()
    }
}

fn wanted_programs(selection: &Selection) -> Vec<&'static str> {
    let programs = PROGRAMS.iter().map(|program| program.test);
    let here = host(selection).is_some();
    programs
        .chain(MORE)
        .filter(|test| here && selection.wants(NAME, test))
        .collect()
}

/// The column of the programs, beside the other libcs' one.
fn host(selection: &Selection) -> Option<(Arch, Cell)> {
    let arch = Arch::host()?;
    let cell = Cell {
        order: 9,
        label: format!("{arch}/libcs"),
    };
    (selection.wants_arch(arch) && selection.wants_kernel_free()).then_some((arch, cell))
}

/// Where `cargo xtask staticlib` puts it for the tests.
pub(super) fn library(lab: &Lab, arch: Arch, trio: bool) -> Result<PathBuf, Trouble> {
    let kind = if trio { "trio" } else { "plain" };
    let out = lab.root.join(format!("target/capi/{arch}-{kind}/out"));
    let plan = Plan { arch, trio };
    staticlib::build(&lab.root, plan, &out, lab.install, &lab.progress).map(|_| out)
}

fn programs(lab: &Lab, arch: Arch, cell: &Cell, tests: &[&str]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for program in PROGRAMS.iter().filter(|p| tests.contains(&p.test)) {
        let verdict = library(lab, arch, program.trio)
            .map_err(|why| (why.verdict(true), String::new()))
            .and_then(|out| run(lab, program, &out));
        let (verdict, console) = verdict.unwrap_or_else(|failed| failed);
        outcomes.push(Outcome::new(cell, NAME, program.test, verdict).with_console(&console));
    }
    for test in MORE.into_iter().filter(|test| tests.contains(test)) {
        let judged = library(lab, arch, test == "header/names")
            .map_err(|why| why.verdict(true))
            .and_then(|out| match test {
                "header/names" => header_names(&out),
                _ => shared_object(lab, &out),
            });
        let verdict = judged.map_or_else(|verdict| verdict, Verdict::Passed);
        outcomes.push(Outcome::new(cell, NAME, test, verdict));
    }
    outcomes
}

/// The header declares what the archive exports, and nothing else.
fn header_names(out: &Path) -> Result<String, Verdict> {
    let fail = |why: String| Verdict::Failed(why);
    let arch = Arch::host().ok_or_else(|| fail("none of the three CPUs".to_owned()))?;
    let plan = Plan { arch, trio: true };
    let exported = Symbols::read(&plan.archive(out)).map_err(fail)?.exported;
    let header = std::fs::read_to_string(out.join("include/rseq_rt.h"))
        .map_err(|why| fail(why.to_string()))?;
    let declared = archive::declared(&header);
    let odd: Vec<_> = declared.symmetric_difference(&exported).collect();
    if odd.is_empty() {
        Ok(format!("{} names", declared.len()))
    } else {
        Err(fail(format!("in one and not in the other: {odd:?}")))
    }
}

/// A shared object that takes the archive in keeps it to itself, without an option of the linker.
fn shared_object(lab: &Lab, out: &Path) -> Result<String, Verdict> {
    let file = out.join("shared.so");
    let mut link = tool("gcc")?;
    link.args(["-shared", "-fPIC", "-o"]).arg(&file);
    link.arg(lab.root.join("tests-qemu/capi/header.c"));
    link.arg("-I").arg(out.join("include"));
    link.arg("-L").arg(out.join("lib")).arg("-lrseq_rt");
    finish(&mut link, "the shared object").map_err(|(verdict, _)| verdict)?;
    match archive::leaked(&file) {
        Ok(leaked) if leaked.is_empty() => Ok(String::new()),
        Ok(leaked) => Err(Verdict::Failed(format!("exports {leaked:?}"))),
        Err(why) => Err(Verdict::Failed(why)),
    }
}
