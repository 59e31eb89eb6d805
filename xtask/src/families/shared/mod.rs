//! Several users of rseq in one process: libraries that bring it, readers, and a libc that may own it.

mod build;
mod cases;
mod libraries;

use std::path::Path;

use anyhow::{Result, bail, ensure};

use self::build::{Build, example};
use self::cases::{CASES, Libc, WITHOUT};
use crate::arch::Arch;
use crate::case::{Case, Family};
use crate::cell::At;
use crate::compiler::{has_libc, needs_with_libc};
use crate::context::Context;
use crate::elf::archive::{TRIO, dynamic};
use crate::install::Need;
use crate::outcome::Failure;
use crate::process::{self, command, optional_tool, output};

pub const FAMILY: Family = Family {
    name: "shared",
    cases,
    needs,
};

fn needs(cx: &Context, at: At) -> Vec<Need> {
    let why = "libraries beside each other";
    let mut needs = match at {
        At::Link(arch) => needs_with_libc(cx, arch),
        At::Libcs(_) => vec![
            Need::new("gcc", &["gcc", "libc6-dev"], why),
            Need::new("musl-gcc", &["musl-tools"], why),
        ],
        _ => return vec![],
    };
    needs.push(Need::new("pkg-config", &["pkg-config"], why));
    needs
}

fn cases(_: &Context, at: At) -> Result<Vec<Case>> {
    match at {
        At::Libcs(arch) => Ok(here(arch)),
        At::Link(arch) if Arch::host() != Some(arch) => Ok(elsewhere(arch)),
        _ => Ok(vec![]),
    }
}

type Judge = Box<dyn Fn(&Build) -> Result<String> + Send + Sync>;

/// The cases of this machine, under each of its libcs.
fn here(arch: Arch) -> Vec<Case> {
    let mut cases = Vec::new();
    for libc in Libc::ALL {
        // Both glibc variants share one build.
        let built = match libc {
            Libc::GlibcOn => Libc::GlibcOff,
            other => other,
        };
        let mut add = |name: &str, run: Judge| {
            let case = Case::new(format!("{}/{name}", libc.name()), move |cx| {
                run(&build(cx, arch, built)?)
            });
            cases.push(case.in_job(format!("libraries under {}", built.name())));
        };
        for case in CASES.iter().filter(|case| case.libcs.contains(&libc)) {
            add(case.test, Box::new(move |build| run(build, libc, case)));
        }
        if !libc.owns() {
            let object = |build: &Build| object(&build.out.join("liba.so"), "lib_a");
            add("object", Box::new(object));
        }
        if libc == Libc::GlibcOff {
            add("example", Box::new(worked_example));
            add("broken/no-version-script", Box::new(no_version_script));
        }
    }
    cases
}

fn build(cx: &Context, arch: Arch, libc: Libc) -> Result<Build> {
    cx.once(format!("shared/{arch}/{}", libc.name()), || {
        let build = Build::open(cx, arch, libc)?;
        build.everything()?;
        Ok(build)
    })
}

/// The cases of another CPU: linked files are inspected, and run where possible.
fn elsewhere(arch: Arch) -> Vec<Case> {
    let build = move |cx: &Context| -> Result<Build> {
        has_libc(arch)?;
        cx.once(format!("shared/{arch}"), || {
            let build = Build::open(cx, arch, Libc::GlibcOff)?;
            build.for_elsewhere()?;
            Ok(build)
        })
    };
    vec![
        Case::new("object", move |cx| {
            object(&build(cx)?.out.join("liba.so"), "lib_a")
        }),
        Case::new("user", move |cx| emulated(&build(cx)?)),
    ]
}

fn run(build: &Build, libc: Libc, case: &cases::Case) -> Result<String> {
    let mut program = command(build.out.join(case.program));
    let on = u8::from(libc == Libc::GlibcOn);
    let tunables = format!("glibc.pthread.rseq={on}{}", case.tunables);
    program
        .args(case.arguments(libc, &build.out.display().to_string()))
        .env("GLIBC_TUNABLES", tunables);
    let ended = process::run(&mut program, 120)?;
    match case.dies {
        Some(signal) => ended.check_death(signal),
        None => ended.check("the program").map(|_| String::new()),
    }
}

/// Without rseq(2), on another CPU.
fn emulated(build: &Build) -> Result<()> {
    let mut emulator = optional_tool(&build.arch.user_emulator())?;
    emulator
        .args(["-L", &format!("/usr/{}-linux-gnu", build.arch)])
        .arg(build.out.join(WITHOUT.program))
        .args(WITHOUT.arguments(Libc::GlibcOff, ""));
    output(&mut emulator, "under qemu-user", 120)?;
    Ok(())
}

/// The object exports its own names and the form's, with their version; it stays loaded; its area's offset is fixed.
fn object(file: &Path, own: &str) -> Result<String> {
    let exported = dynamic(file)?;
    let wanted = [own, "rseq_rt_library_v2"].into_iter().chain(TRIO);
    let mut missing = wanted.clone();
    let missing = missing.find(|name| !exported.iter().any(|other| other == name));
    // The version is a symbol too, and musl's start files add two.
    let known: Vec<&str> = wanted.chain(["", "RSEQ_RT_1", "_init", "_fini"]).collect();
    let stray = exported.iter().find(|name| !known.contains(&name.as_str()));
    ensure!(
        missing.is_none() && stray.is_none(),
        "lacks {missing:?}, exports {stray:?}"
    );
    let mut read = optional_tool("readelf")?;
    read.args(["-drW", "--dyn-syms"]).arg(file);
    let said = output(&mut read, "readelf", 120)?;
    // The relocation of initial-exec TLS has one of two names.
    let has_fixed_offset = said.contains("TPOFF64") || said.contains("TPREL64");
    let promises = [
        ("fixed offset from the thread pointer", has_fixed_offset),
        ("NODELETE", said.contains("NODELETE")),
        ("version", said.contains("__rseq_size@@RSEQ_RT_1")),
    ];
    match promises.iter().find(|(_, kept)| !kept) {
        Some((promise, _)) => Err(Failure::error(format!("no {promise}"), said)),
        None => Ok(String::new()),
    }
}

/// The example in the header, built as the header says.
fn worked_example(build: &Build) -> Result<String> {
    let header = build.capi.join("include/rseq_rt_library.h");
    let source = build.out.join("counter.c");
    let file = build.out.join("libcounter.so");
    std::fs::write(&source, example(&header)?)?;
    let form = build.asked(&["--variable=source", "rseq_rt_library"])?;
    let flags = build.asked(&["--cflags", "--libs", "rseq_rt_library"])?;
    let mut compile = build.compiler()?;
    compile.args(["-shared", "-fPIC", "-o"]).arg(&file);
    compile.arg(&source).args(form).args(flags);
    output(&mut compile, "the example", 120)?;
    object(&file, "counter_add")
}

/// The linker refuses symbols that would take precedence over glibc's.
fn no_version_script(build: &Build) -> Result<String> {
    let Err(why) = build.library_without_script() else {
        bail!("links");
    };
    match why.downcast_ref::<Failure>() {
        Some(failure) if failure.console.contains("RSEQ_RT_1") => Ok(String::new()),
        _ => Err(why),
    }
}
