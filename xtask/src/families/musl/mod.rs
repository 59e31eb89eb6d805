//! Programs under the hooked musl: natively, under qemu-user, and as PID 1 of the newest kernel, static and shared.

mod bootstrap;
mod faults;
mod lua;
mod patches;
mod percpu;
mod pigz;
mod programs;

use std::path::PathBuf;

use anyhow::Result;

use self::programs::{Kind, Programs, Which};
use crate::arch::Arch;
use crate::case::{Case, Family, Judged};
use crate::cell::{At, keep_console};
use crate::console;
use crate::context::Context;
use crate::guests::guest_needs;
use crate::install::Need;
use crate::machine::boot;
use crate::machine::place::{Machine, Place};
use crate::musl::{self, Release, Variant};
use crate::outcome::Missing;

pub const FAMILY: Family = Family {
    name: "musl",
    cases,
    needs: |cx, at| {
        let mut needs = guest_needs(cx, at);
        let native = matches!(at, At::Place(place) if place.machine == Machine::Native);
        let patching = ["patch", "git"].map(|name| Need::new(name, &[name], "patching musl"));
        needs.push(Need::new("make", &["make"], "building musl"));
        needs.extend(patching.into_iter().filter(|_| native));
        needs
    },
};

/// All programs under musl 1.2.5: its vfork on aarch64 and riscv64 is real, where that of 1.2.3 is a fork.
const NEWER: &str = "trixie/programs";

fn cases(cx: &Context, at: At) -> Result<Vec<Case>> {
    let At::Place(place) = at else {
        return Ok(vec![]);
    };
    // x86_64 runs natively only. Under qemu-user its programs really execute others, and in a program of many threads
    // the fork that qemu makes of a vfork occasionally hangs in qemu's own locks.
    let (wanted, newer) = match place.machine {
        Machine::Native => (true, true),
        Machine::User => (place.arch != Arch::X86_64, false),
        Machine::Given(_) => (false, false),
        // Once per CPU.
        Machine::Listed(_) => (
            place.is_newest(),
            place.is_newest() && Arch::host() != Some(place.arch),
        ),
    };
    let mut cases = Vec::new();
    if place.machine == Machine::Native {
        cases.extend(faults::cases(place.arch));
        cases.extend(patches::cases(place));
        cases.extend(bootstrap::cases(place.arch));
    }
    cases.extend(percpu::cases(&at.cell(cx).label, place));
    if wanted {
        let run = move |cx: &Context, tests: &[String]| {
            run(cx, &Which::hooked(Release::default()), place, tests)
        };
        let build = built(Which::hooked(Release::default()), place);
        let together = Case::together(names(cx)?, run).into_iter();
        cases.extend(together.map(|case| case.ahead(build.clone())));
    }
    if newer {
        let title = format!("musl 1.2.5 on {}", at.cell(cx).label);
        let case = Case::new(NEWER, move |cx| under_newer(cx, place)).in_job(title);
        cases.push(case.ahead(built(Which::hooked(Release::Trixie), place)));
    }
    Ok(cases)
}

/// The build of the programs of a place.
fn built(which: Which, place: Place) -> impl Fn(&Context) -> Result<Programs> + Clone {
    move |cx| Programs::build(cx, &which, place.arch, place.boots())
}

fn names(cx: &Context) -> Result<Vec<String>> {
    let names = programs::names(cx)?;
    let of = |kind: Kind| {
        names
            .iter()
            .map(move |name| format!("{}/{name}", kind.name()))
    };
    Ok(Kind::ALL.into_iter().flat_map(of).collect())
}

/// One run of a program, and its expected tests.
struct Part {
    program: PathBuf,
    more: Vec<(&'static str, PathBuf)>,
    tests: Vec<String>,
}

/// Those tests at `place`, under that musl.
fn run(cx: &Context, which: &Which, place: Place, tests: &[String]) -> Result<Vec<Judged>> {
    let mut all = Vec::new();
    let mut consoles = String::new();
    // In full length under one musl of this machine; of the others it is enough that they do the same.
    let is_other = which.source != Release::default().into();
    let scale = match place.machine {
        Machine::Native if is_other => "emulated",
        _ => place.scale(),
    };
    for part in parts(cx, which, place, tests)? {
        let mut arguments = vec!["--scale", scale];
        if let Some(only) = only(&part.tests) {
            arguments.extend(["--only", only]);
        }
        let run = boot::run(cx, place, &part.program, &part.more, &arguments)?.finished;
        let judged = console::judge(&run.output, &part.tests, run.end, !place.boots());
        let mut tests = judged.tests;
        tests.retain(|(test, _)| part.tests.contains(test) || test == "ending");
        all.extend(Judged::all(tests, &run.output));
        consoles.push_str(&run.output);
    }
    let name = which.source.named(match which.variant {
        Variant::Percpu => "musl-percpu",
        _ => "musl",
    });
    keep_console(cx, &name, place, &consoles);
    Ok(all)
}

/// One program at a time, or both in one boot: the static one executes the other when it is done.
fn parts(cx: &Context, which: &Which, place: Place, tests: &[String]) -> Result<Vec<Part>> {
    let programs = Programs::build(cx, which, place.arch, place.boots())?;
    if place.boots() {
        return Ok(vec![Part {
            program: programs.path(Kind::Static),
            more: programs.beside(),
            tests: tests.to_vec(),
        }]);
    }
    let part = |kind: Kind| {
        let prefix = format!("{}/", kind.name());
        let mine = tests.iter().filter(|test| test.starts_with(&prefix));
        Part {
            program: programs.path(kind),
            more: Vec::new(),
            tests: mine.cloned().collect(),
        }
    };
    let parts = Kind::ALL.map(part).into_iter();
    Ok(parts.filter(|part| !part.tests.is_empty()).collect())
}

/// The common prefix of the wanted tests' names, if any.
fn only(tests: &[String]) -> Option<&str> {
    let mut names = tests.iter().filter_map(|test| test.split('/').next_back());
    let first = names.next()?;
    let common = names.fold(first, |common, name| {
        let same = common.bytes().zip(name.bytes());
        &common[..same.take_while(|(one, other)| one == other).count()]
    });
    (!common.is_empty()).then_some(common)
}

/// The number that passed; or the first that did not, with its console.
fn under_newer(cx: &Context, place: Place) -> Result<String> {
    // The mirror may not have that release.
    let built = musl::built(cx, Release::Trixie, place.arch, Variant::Hooked);
    built.map_err(Missing::excused)?;
    Judged::sum(run(
        cx,
        &Which::hooked(Release::Trixie),
        place,
        &names(cx)?,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_are_named_after_the_program() {
        let all = names(&Context::new(false, 1).unwrap()).unwrap();
        assert_eq!(all.len() % 2, 0);
        for name in ["static/constructors", "shared/detached_storm"] {
            assert!(all.contains(&name.to_owned()));
        }
        let tests = ["static/a", "shared/a", "static/b"].map(str::to_owned);
        assert_eq!(only(&tests[..2]), Some("a"));
        assert_eq!(only(&tests), None);
        let tests = ["static/malloc_storm", "shared/malloc_catches"].map(str::to_owned);
        assert_eq!(only(&tests), Some("malloc_"));
    }
}
