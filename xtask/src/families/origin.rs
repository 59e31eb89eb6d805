//! The embedding into origin, a runtime without libc: natively, under qemu-user, and as PID 1 on the newest kernel.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::SIGSEGV;

use super::{Family, Job, Selection, place_needs};
use crate::arch::Arch;
use crate::cargo::{cargo, finish};
use crate::compiler;
use crate::install::Need;
use crate::lab::Lab;
use crate::outcome::{Cell, Outcome, Trouble, Verdict};
use crate::place::{Machine, Place};
use crate::process::{self, End, Finished};

/// The family.
pub struct Origin;

const NAME: &str = "origin";

/// The embedding as it is to be.
const EMBEDDED: &str = "embedded";
/// The same without the release, which is to die. Natively.
const BROKEN: &str = "without-release";
/// Form and lints: the package is outside the workspace, which has them checked in one go.
const FORM: &str = "form";

/// Its package, from the workspace's root.
const MANIFEST: &str = "examples/origin/Cargo.toml";
/// What is built of it, from there too.
const FOLDER: &str = "target/embed/origin";

impl Family for Origin {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self, lab: &Lab, selection: &Selection) -> Vec<Need> {
        let places: Vec<Place> = tests(selection)
            .into_iter()
            .map(|(place, _)| place)
            .collect();
        place_needs(lab, &places)
    }

    fn list(&self, lab: &Lab, selection: &Selection) -> Vec<(Cell, String)> {
        let tests = tests(selection).into_iter();
        tests
            .map(|(place, test)| (cell(lab, &place), test.to_owned()))
            .collect()
    }

    fn jobs<'lab>(&self, lab: &'lab Lab, selection: &Selection) -> Vec<Job<'lab>> {
        let jobs = tests(selection).into_iter().map(|(place, test)| {
            let title = format!("{NAME}::{test} on {}", cell(lab, &place).label);
            Job::at(place, title, move |place| vec![run(lab, place, test)])
        });
        jobs.collect()
    }
}

/// The tests, each with its place.
fn tests(selection: &Selection) -> Vec<(Place, &'static str)> {
    let places = selection.places().into_iter();
    let mut tests = Vec::new();
    for place in places {
        let at: &[&str] = match place.machine {
            Machine::Native => &[FORM, EMBEDDED, BROKEN],
            Machine::User => &[EMBEDDED],
            Machine::Kernel(_) if place.is_newest() => &[EMBEDDED],
            Machine::Kernel(_) => &[],
        };
        let wanted = at.iter().filter(|test| selection.wants(NAME, test));
        tests.extend(wanted.map(|&test| (place.clone(), test)));
    }
    tests
}

fn cell(lab: &Lab, place: &Place) -> Cell {
    place.cell(lab.known_version(place).as_deref())
}

fn run(lab: &Lab, place: &Place, test: &'static str) -> Outcome {
    let judged = match test {
        FORM => form(lab),
        _ => build(lab, place.arch, test == BROKEN)
            .and_then(|program| lab.run_program(place, &program, &[], &arguments(place)))
            .map(|run| match test {
                BROKEN => (broken(&run.finished), run.finished),
                _ => (embedded(&run.finished), run.finished),
            }),
    };
    let cell = cell(lab, place);
    match judged {
        Err(why) => Outcome::new(&cell, NAME, test, why.verdict(place.required())),
        Ok((verdict, finished)) => Outcome::new(&cell, NAME, test, verdict)
            .with_console(&finished.output)
            .took(finished.elapsed),
    }
}

/// As many rounds as the place can take in a second or two.
fn arguments(place: &Place) -> Vec<String> {
    let rounds = match place.machine {
        Machine::Native => "500",
        Machine::User => "4",
        Machine::Kernel(_) => "20",
    };
    let mut arguments = place.demo_arguments();
    arguments.extend(["--rounds", rounds].map(str::to_owned));
    arguments
}

/// A booted machine has no exit code: the last line counts there, and here as well.
fn embedded(finished: &Finished) -> Verdict {
    let mut lines = finished.output.lines().map(str::trim);
    let counts = lines.clone().find(|line| line.starts_with("threads "));
    if finished.ok() && lines.any(|line| line == "passed") {
        return Verdict::Passed(counts.unwrap_or_default().to_owned());
    }
    let why = lines.find(|line| line.starts_with("failed: "));
    Verdict::Failed(why.map_or_else(|| finished.end.to_string(), str::to_owned))
}

/// It unmaps the memory of a thread that is registered.
fn broken(finished: &Finished) -> Verdict {
    match finished.end {
        End::Signal(signal) if signal == SIGSEGV as i32 => {
            Verdict::Passed(format!("dies: {}", finished.end))
        }
        end => Verdict::Failed(format!("it is to die of SIGSEGV: {end}")),
    }
}

/// Builds it for `arch`. Static and freestanding by its own build script.
fn build(lab: &Lab, arch: Arch, without_release: bool) -> Result<PathBuf, Trouble> {
    let missing = |error: anyhow::Error| Trouble::Missing(format!("{error:#}"));
    let compiler = compiler::find(arch, lab.install, &lab.progress).map_err(missing)?;
    let folder = lab.root.join(FOLDER);
    let mut build = compiler.build_with("core,alloc,compiler_builtins");
    build
        .args(["--quiet", "--release", "--manifest-path", MANIFEST])
        .args(["--target", arch.target(), "--target-dir"])
        .arg(&folder)
        .current_dir(&lab.root)
        .env("CARGO_TERM_COLOR", "never");
    if without_release {
        build.args(["--features", "without-release"]);
    }
    if Arch::host() != Some(arch) {
        let linker = arch.cross_linker();
        which::which(&linker)
            .map_err(|_| Trouble::Missing(format!("{linker} is not installed")))?;
        build.env(arch.linker_variable(), linker);
    }
    let built = process::run(&mut build, Duration::from_secs(600))
        .map_err(|error| Trouble::Missing(format!("cargo did not start: {error}")))?;
    if !built.ok() {
        return Err(Trouble::Broken(format!(
            "does not build: {}",
            built.tail(8)
        )));
    }
    let made = folder.join(arch.target()).join("release/origin-embedding");
    keep(&made, without_release)
}

/// Under a name of its own: the next build of the other kind takes the place of the first.
fn keep(made: &Path, without_release: bool) -> Result<PathBuf, Trouble> {
    let kept = made.with_file_name(if without_release {
        "broken"
    } else {
        "embedded"
    });
    std::fs::copy(made, &kept)
        .map_err(|error| Trouble::Broken(format!("{}: {error}", made.display())))?;
    Ok(kept)
}

fn form(lab: &Lab) -> Result<(Verdict, Finished), Trouble> {
    let ask = |tool: &str, arguments: &[&str]| {
        let present = finish(cargo(lab, None, &[tool, "--version"])).map_err(Trouble::Missing)?;
        if !present.ok() {
            return Err(Trouble::Missing(present.tail(1)));
        }
        let mut command = cargo(lab, None, &[tool, "--manifest-path", MANIFEST]);
        command.args(arguments);
        finish(command).map_err(Trouble::Missing)
    };
    let formatted = ask("fmt", &["--check"])?;
    if !formatted.ok() {
        return Ok((Verdict::Failed("cargo fmt".to_owned()), formatted));
    }
    let lint = [
        "--quiet",
        "--release",
        "--target-dir",
        FOLDER,
        "--",
        "-Dwarnings",
    ];
    let linted = ask("clippy", &lint)?;
    let verdict = if linted.ok() {
        Verdict::Passed(String::new())
    } else {
        Verdict::Failed("cargo clippy".to_owned())
    };
    Ok((verdict, linted))
}
