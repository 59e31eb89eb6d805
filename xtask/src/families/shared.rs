//! Several users of rseq in one process: libraries that bring it, readers that only look, a libc that may own it.

use std::path::Path;
use std::time::{Duration, Instant};

use object::{Object as _, ObjectSymbol as _};

use super::cprogram::{finish, tool};
use super::sharedcases::{CASES, Case, Libc, WITHOUT};
use super::sharedlibs::{Failure, Workshop, example};
use super::{Family, Job, Selection};
use crate::arch::Arch;
use crate::archive::TRIO;
use crate::install::Need;
use crate::lab::Lab;
use crate::outcome::{Cell, Outcome, Verdict};
use crate::place::user_emulator;
use crate::process::{self, End, command};

/// The family.
pub struct Shared;

const NAME: &str = "shared";

/// What is read from linked files on each CPU, and run where it can be.
const ELSEWHERE: [&str; 2] = ["object", "user"];

/// Further tests on the host.
const MORE: [&str; 2] = ["example", "broken/no-version-script"];

impl Family for Shared {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self, lab: &Lab, selection: &Selection) -> Vec<Need> {
        let mut needs = Vec::new();
        for arch in Arch::ALL {
            if !wanted_elsewhere(selection, arch).is_empty() {
                needs.extend(crate::compiler::needs(arch, lab.install, &lab.progress));
                let why = format!("libraries for {arch}");
                needs.push(Need::new(user_emulator(arch), &["qemu-user"], &why));
                let package = format!("libc6-dev-{}-cross", arch.debian());
                needs.push(Need::new(libc_of(arch), &[package], &why));
                needs.push(Need::new("pkg-config", &["pkg-config"], why));
            }
        }
        if wanted_here(selection).is_some_and(|(_, _, tests)| !tests.is_empty()) {
            let why = "libraries beside each other";
            needs.push(Need::new("gcc", &["gcc", "libc6-dev"], why));
            needs.push(Need::new("musl-gcc", &["musl-tools"], why));
            needs.push(Need::new("pkg-config", &["pkg-config"], why));
        }
        needs
    }

    fn list(&self, _: &Lab, selection: &Selection) -> Vec<(Cell, String)> {
        let mut listed = Vec::new();
        for arch in Arch::ALL {
            let cell = super::link::cell(arch);
            let tests = wanted_elsewhere(selection, arch);
            listed.extend(tests.iter().map(|test| (cell.clone(), test.to_string())));
        }
        if let Some((_, cell, tests)) = wanted_here(selection) {
            listed.extend(tests.into_iter().map(|test| (cell.clone(), test)));
        }
        listed
    }

    fn jobs<'lab>(&self, lab: &'lab Lab, selection: &Selection) -> Vec<Job<'lab>> {
        let mut jobs = Vec::new();
        for arch in Arch::ALL {
            let tests = wanted_elsewhere(selection, arch);
            if !tests.is_empty() {
                let work = move || elsewhere(lab, arch, &tests);
                jobs.push(Job::alone(format!("libraries for {arch}"), work));
            }
        }
        let Some((arch, cell, tests)) = wanted_here(selection) else {
            return jobs;
        };
        // Both kinds of glibc are one build.
        for (libc, prefix) in [
            (Libc::Musl, "musl/"),
            (Libc::MuslOn, "musl-on/"),
            (Libc::GlibcOff, "glibc"),
        ] {
            let is_of_it = |test: &&String| test.starts_with(prefix);
            let tests: Vec<String> = tests.iter().filter(is_of_it).cloned().collect();
            if !tests.is_empty() {
                let cell = cell.clone();
                let title = format!("libraries under {}", prefix.trim_end_matches('/'));
                let work = move || here(lab, arch, libc, &cell, &tests);
                jobs.push(Job::alone(title, work));
            }
        }
        jobs
    }
}

/// The tests of a CPU that is not this machine's.
fn wanted_elsewhere(selection: &Selection, arch: Arch) -> Vec<&'static str> {
    let there = selection.wants_arch(arch) && selection.wants_kernel_free();
    ELSEWHERE
        .into_iter()
        .filter(|test| there && Arch::host() != Some(arch) && selection.wants(NAME, test))
        .collect()
}

/// The tests of this machine, in the column of its libcs.
fn wanted_here(selection: &Selection) -> Option<(Arch, Cell, Vec<String>)> {
    let arch = Arch::host()?;
    let cell = Cell {
        order: 9,
        label: format!("{arch}/libcs"),
    };
    let mut tests = Vec::new();
    for libc in Libc::ALL {
        let cases = CASES.iter().filter(|case| case.libcs.contains(&libc));
        tests.extend(cases.map(|case| test_name(libc, case.test)));
        if !libc.owns() {
            tests.push(test_name(libc, ELSEWHERE[0]));
        }
    }
    tests.extend(MORE.map(|test| test_name(Libc::GlibcOff, test)));
    tests.retain(|test| selection.wants(NAME, test));
    (selection.wants_arch(arch) && selection.wants_kernel_free()).then_some((arch, cell, tests))
}

fn test_name(libc: Libc, test: &str) -> String {
    format!("{}/{test}", libc.name())
}

fn outcome(cell: &Cell, test: &str, judged: Result<String, Failure>) -> Outcome {
    match judged {
        Ok(detail) => Outcome::new(cell, NAME, test, Verdict::Passed(detail)),
        Err((verdict, said)) => Outcome::new(cell, NAME, test, verdict).with_console(&said),
    }
}

fn failed(why: impl std::fmt::Display) -> Failure {
    (Verdict::Failed(why.to_string()), String::new())
}

fn here(lab: &Lab, arch: Arch, libc: Libc, cell: &Cell, tests: &[String]) -> Vec<Outcome> {
    let built =
        Workshop::open(lab, arch, libc).and_then(|workshop| workshop.build().map(|()| workshop));
    let judge = |test: &String| {
        let workshop = built.as_ref().map_err(Clone::clone)?;
        let (libc, name) = test.split_once('/').unwrap_or(("", test));
        let libc = Libc::ALL.into_iter().find(|known| known.name() == libc);
        let case = CASES.iter().find(|case| case.test == name);
        match (libc, case, name) {
            (Some(libc), Some(case), _) => run(workshop, libc, case),
            (_, _, "object") => object(&workshop.out.join("liba.so"), "lib_a"),
            (_, _, "example") => worked_example(workshop),
            _ => no_version_script(workshop),
        }
    };
    let timed = |test: &String| {
        let started = Instant::now();
        outcome(cell, test, judge(test)).took(started.elapsed())
    };
    tests.iter().map(timed).collect()
}

fn run(workshop: &Workshop, libc: Libc, case: &Case) -> Result<String, Failure> {
    let mut program = command(workshop.out.join(case.program));
    program
        .args(case.arguments(libc, &workshop.out.display().to_string()))
        .env("GLIBC_TUNABLES", libc.tunable() + case.tunables);
    let ended = process::run(&mut program, Duration::from_secs(120)).map_err(failed)?;
    let as_wanted = match case.dies {
        Some(signal) => ended.end == End::Signal(signal as i32),
        None => ended.ok(),
    };
    match (as_wanted, case.dies) {
        (true, Some(_)) => Ok("died, as it must".to_owned()),
        (true, None) => Ok(String::new()),
        (false, _) => Err((Verdict::Failed(ended.end.to_string()), ended.output)),
    }
}

/// Where Debian puts the glibc of another CPU.
fn libc_of(arch: Arch) -> String {
    format!("/usr/{arch}-linux-gnu/lib/libc.so.6")
}

fn elsewhere(lab: &Lab, arch: Arch, tests: &[&str]) -> Vec<Outcome> {
    let open = || {
        if !Path::new(&libc_of(arch)).exists() {
            let why = format!("{} is not installed", libc_of(arch));
            return Err((Verdict::Missing(why), String::new()));
        }
        let workshop = Workshop::open(lab, arch, Libc::GlibcOff)?;
        workshop.build_for_elsewhere().map(|()| workshop)
    };
    let built = open();
    let judge = |test: &str| {
        let workshop = built.as_ref().map_err(Clone::clone)?;
        if test == "object" {
            object(&workshop.out.join("liba.so"), "lib_a")
        } else {
            emulated(workshop)
        }
    };
    tests
        .iter()
        .map(|test| outcome(&super::link::cell(arch), test, judge(test)))
        .collect()
}

/// Without rseq(2), on another CPU.
fn emulated(workshop: &Workshop) -> Result<String, Failure> {
    let root = format!("/usr/{}-linux-gnu", workshop.arch);
    let mut emulator = tool(&user_emulator(workshop.arch)).map_err(|why| (why, String::new()))?;
    emulator
        .args(["-L", &root])
        .arg(workshop.out.join(WITHOUT.program));
    emulator.args(WITHOUT.arguments(Libc::GlibcOff, ""));
    finish(&mut emulator, "under qemu-user").map(|_| String::new())
}

/// It exports its own names and the form's, with their version; it stays; its area is at a fixed offset.
fn object(file: &Path, own: &str) -> Result<String, Failure> {
    let bytes = std::fs::read(file).map_err(failed)?;
    let elf = object::File::parse(&*bytes).map_err(failed)?;
    let exported: Vec<&str> = elf
        .dynamic_symbols()
        .filter(|symbol| !symbol.is_undefined())
        .filter_map(|symbol| symbol.name().ok())
        .collect();
    let wanted = [own, "rseq_rt_library_v2"].into_iter().chain(TRIO);
    let missing: Vec<_> = wanted
        .clone()
        .filter(|name| !exported.contains(name))
        .collect();
    // The version is a symbol too, and musl's start files bring two.
    let known = wanted.clone().chain(["", "RSEQ_RT_1", "_init", "_fini"]);
    let stray: Vec<_> = exported
        .iter()
        .filter(|name| !known.clone().any(|known| known == **name))
        .collect();
    if !missing.is_empty() || !stray.is_empty() {
        return Err(failed(format!("lacks {missing:?}, exports {stray:?}")));
    }
    let mut read = tool("readelf").map_err(|why| (why, String::new()))?;
    let said = finish(read.args(["-drW", "--dyn-syms"]).arg(file), "readelf")?;
    // The relocation of initial-exec TLS has one of two names.
    let has_fixed_offset = said.contains("TPOFF64") || said.contains("TPREL64");
    let promises = [
        ("fixed offset from the thread pointer", has_fixed_offset),
        ("NODELETE", said.contains("NODELETE")),
        ("version", said.contains("__rseq_size@@RSEQ_RT_1")),
    ];
    match promises.iter().find(|(_, kept)| !kept) {
        Some((promise, _)) => Err((Verdict::Failed(format!("no {promise}")), said)),
        None => Ok(String::new()),
    }
}

/// The header's example, built as the header says.
fn worked_example(workshop: &Workshop) -> Result<String, Failure> {
    let header = workshop.capi.join("include/rseq_rt_library.h");
    let source = workshop.out.join("counter.c");
    let file = workshop.out.join("libcounter.so");
    let text = example(&header).map_err(failed)?;
    std::fs::write(&source, text).map_err(failed)?;
    let form = workshop.asked(&["--variable=source", "rseq_rt_library"])?;
    let flags = workshop.asked(&["--cflags", "--libs", "rseq_rt_library"])?;
    let mut build = workshop.compiler()?;
    build
        .args(["-shared", "-fPIC", "-o"])
        .arg(&file)
        .arg(&source);
    build.args(form).args(flags);
    finish(&mut build, "the example")?;
    object(&file, "counter_add")
}

/// The linker refuses symbols that would stand before glibc's.
fn no_version_script(workshop: &Workshop) -> Result<String, Failure> {
    match workshop.library_without_script() {
        Err((Verdict::Failed(_), said)) if said.contains("RSEQ_RT_1") => Ok(String::new()),
        Err(failure) => Err(failure),
        Ok(()) => Err(failed("links")),
    }
}
