//! The C interface: the archive on each CPU, and C programs that use it under the host's glibc.

mod archives;
mod booted;
mod installed;
mod programs;

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::arch::Arch;
use crate::case::{Case, Family};
use crate::cell::At;
use crate::compiler::{needs, needs_with_libc};
use crate::context::Context;
use crate::elf::archive::{self, PREFIX, Symbols};
use crate::process::{optional_tool, output};
use crate::staticlib::{self, Plan};

pub const FAMILY: Family = Family {
    name: "capi",
    cases,
    needs: |cx, at| match at {
        At::Link(arch) => needs_with_libc(cx, arch),
        At::Libcs(arch) => needs(cx, arch),
        At::Place(place) if booted::has_any(place) => {
            let mut all = needs_with_libc(cx, place.arch);
            all.extend(place.needs());
            all
        }
        _ => vec![],
    },
};

fn cases(_: &Context, at: At) -> Result<Vec<Case>> {
    let arch = match at {
        At::Link(arch) => return Ok(archives::cases(arch)),
        At::Libcs(arch) => arch,
        At::Place(place) => return Ok(booted::cases(place)),
        _ => return Ok(vec![]),
    };
    let case = |program: &'static programs::Program| {
        Case::new(program.test, move |cx| programs::run(cx, arch, program))
    };
    let mut cases: Vec<Case> = programs::PROGRAMS.iter().map(case).collect();
    cases.push(Case::new("header/names", move |cx| header_names(cx, arch)));
    cases.push(Case::new("shared-object", move |cx| {
        shared_object(cx, arch)
    }));
    cases.push(Case::new("install/pkg-config", move |cx| {
        installed::pkg_config(cx, arch)
    }));
    cases.push(Case::new("install/cmake", move |cx| {
        installed::cmake(cx, arch)
    }));
    Ok(cases)
}

/// The header declares what the archive exports, and nothing else; the manual page names all of it.
fn header_names(cx: &Context, arch: Arch) -> Result<String> {
    let out = staticlib::built(cx, arch, true)?;
    let plan = Plan { arch, trio: true };
    let exported = Symbols::read(&plan.archive(&out))?.exported;
    let read = |header: &str| std::fs::read_to_string(out.join("include").join(header));
    let header = read("rseq_rt.h")? + &read("rseq_rt_percpu.h")? + &read("rseq_rt_structures.h")?;
    let declared = archive::declared(&header);
    let odd: Vec<_> = declared.symmetric_difference(&exported).collect();
    ensure!(odd.is_empty(), "in one and not in the other: {odd:?}");
    let manual = std::fs::read_to_string(out.join("share/man/man3/rseq_rt.3"))?;
    let words: BTreeSet<_> = manual.split_whitespace().collect();
    let unnamed: Vec<_> = declared
        .iter()
        .filter(|it| !words.contains(&***it))
        .collect();
    ensure!(unnamed.is_empty(), "not in the manual page: {unnamed:?}");
    Ok(format!("{} names", declared.len()))
}

/// A shared object that links the archive in does not export it, without any linker option.
fn shared_object(cx: &Context, arch: Arch) -> Result<()> {
    let out = staticlib::built(cx, arch, false)?;
    let file = out.join("shared.so");
    let mut link = optional_tool("gcc")?;
    link.args(["-shared", "-fPIC", "-o"]).arg(&file);
    link.arg(cx.root.join("tests-qemu/capi/header.c"));
    link.args(staticlib::options(&out));
    output(&mut link, "the shared object", 120)?;
    let mut leaked = archive::dynamic(&file)?;
    leaked.retain(|name| name.starts_with(PREFIX));
    ensure!(leaked.is_empty(), "exports {leaked:?}");
    Ok(())
}
