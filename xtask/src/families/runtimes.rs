//! The hooks in the threads of others: std, rayon and tokio, on a libc that owns rseq and on two that do not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::SIGSEGV;

use super::{Family, Job, Selection};
use crate::arch::Arch;
use crate::compiler::{self, Compiler};
use crate::install::Need;
use crate::lab::Lab;
use crate::outcome::{Cell, Outcome, Trouble, Verdict};
use crate::process::{self, End, Finished, command};

/// The family.
pub struct Runtimes;

const NAME: &str = "runtimes";

/// Whose threads, as the program takes it.
const RUNTIMES: [&str; 3] = ["std", "rayon", "tokio"];

/// A libc under them, and who is to own rseq there.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Under {
    name: &'static str,
    musl: bool,
    /// Whether glibc registers for itself.
    libc_on: bool,
    /// What the program is told to expect.
    owner: &'static str,
}

const UNDER: [Under; 3] = [
    Under {
        name: "glibc/libc-owns",
        musl: false,
        libc_on: true,
        owner: "libc",
    },
    GLIBC,
    MUSL,
];

const GLIBC: Under = Under {
    name: "glibc/runtime-owns",
    musl: false,
    libc_on: false,
    owner: "runtime",
};

const MUSL: Under = Under {
    name: "musl/runtime-owns",
    musl: true,
    libc_on: false,
    owner: "runtime",
};

/// The program takes a second or two.
const PATIENCE: Duration = Duration::from_secs(120);
/// After this long a broken one is looked at, whether it does nothing any more.
const HANG: Duration = Duration::from_secs(10);
/// Between one look and the next.
const PAUSE: Duration = Duration::from_secs(1);

/// What glibc sends to each thread for setuid(3), by its number.
const SETXID: u32 = 33;

/// Runs of a broken one, until one of them shows it.
const ATTEMPTS: usize = 8;

/// Nobody joins the thread, musl unmaps its memory, and the program is to die.
const BROKEN: &str = "std/musl/without-release";
/// A thread waits for the libc's lock with signals blocked, its holder for the thread to take one, and the program hangs.
const HUNG: &str = "std/glibc/left-blocked";

impl Family for Runtimes {
    fn name(&self) -> &'static str {
        NAME
    }

    fn needs(&self, lab: &Lab, selection: &Selection) -> Vec<Need> {
        if self.list(lab, selection).is_empty() {
            return Vec::new();
        }
        vec![Need::new(
            "cc",
            &["gcc", "libc6-dev"],
            "linking std programs",
        )]
    }

    fn list(&self, _: &Lab, selection: &Selection) -> Vec<(Cell, String)> {
        let Some((_, cell)) = host(selection) else {
            return Vec::new();
        };
        let mut names: Vec<String> = Vec::new();
        for under in UNDER {
            names.extend(RUNTIMES.map(|runtime| test_name(runtime, under)));
        }
        names.extend([BROKEN, HUNG].map(str::to_owned));
        let wanted = names.into_iter().filter(|test| selection.wants(NAME, test));
        wanted.map(|test| (cell.clone(), test)).collect()
    }

    fn jobs<'lab>(&self, lab: &'lab Lab, selection: &Selection) -> Vec<Job<'lab>> {
        let Some((arch, cell)) = host(selection) else {
            return Vec::new();
        };
        let listed: Vec<String> = self
            .list(lab, selection)
            .into_iter()
            .map(|(_, test)| test)
            .collect();
        let of = |libc: &str| -> Vec<String> {
            let wanted = listed.iter().filter(|test| test.contains(libc));
            wanted.cloned().collect()
        };
        let jobs = ["glibc", "musl"].into_iter().filter_map(|libc| {
            let (tests, cell) = (of(libc), cell.clone());
            (!tests.is_empty()).then(|| {
                Job::alone(format!("std, rayon and tokio on {libc}"), move || {
                    run(lab, arch, &cell, libc == "musl", &tests)
                })
            })
        });
        jobs.collect()
    }
}

/// The host's own libcs, in the column of the ownership tests.
fn host(selection: &Selection) -> Option<(Arch, Cell)> {
    let arch = Arch::host()?;
    let wanted = selection.wants_arch(arch) && selection.wants_kernel_free();
    wanted.then(|| {
        let label = format!("{arch}/libcs");
        (arch, Cell { order: 9, label })
    })
}

fn test_name(runtime: &str, under: Under) -> String {
    format!("{runtime}/{}", under.name)
}

fn run(lab: &Lab, arch: Arch, cell: &Cell, musl: bool, tests: &[String]) -> Vec<Outcome> {
    let outcome = |test: &str, judged: Result<(Verdict, Finished), Trouble>| match judged {
        Err(why) => Outcome::new(cell, NAME, test, why.verdict(!musl)),
        Ok((verdict, finished)) => Outcome::new(cell, NAME, test, verdict)
            .with_console(&finished.output)
            .took(finished.elapsed),
    };
    let mut outcomes = Vec::new();
    let program = build(lab, arch, musl, None);
    for under in UNDER.into_iter().filter(|under| under.musl == musl) {
        for runtime in RUNTIMES {
            let test = test_name(runtime, under);
            if tests.contains(&test) {
                let judged = program.clone().and_then(|program| {
                    start(&program, runtime, under, PATIENCE)
                        .map(|(finished, _)| (content(&finished), finished))
                });
                outcomes.push(outcome(&test, judged));
            }
        }
    }
    let broken = [
        (
            BROKEN,
            "without-release",
            MUSL,
            dead as fn(&Finished, bool) -> Verdict,
        ),
        (HUNG, "left-blocked", GLIBC, hung),
    ];
    let wanted = broken
        .into_iter()
        .filter(|(test, ..)| tests.iter().any(|one| one == test));
    for (test, feature, under, judge) in wanted {
        let judged = build(lab, arch, musl, Some(feature)).and_then(|program| {
            // A broken program gets through now and then: seen in one of eight runs, of that which hangs.
            let mut last = None;
            for _ in 0..ATTEMPTS {
                let (finished, stuck) = start(&program, "std", under, HANG)?;
                let verdict = judge(&finished, stuck);
                let shown = matches!(verdict, Verdict::Passed(_));
                last = Some((verdict, finished));
                if shown {
                    break;
                }
            }
            last.ok_or_else(|| Trouble::Broken("it was not tried".to_owned()))
        });
        outcomes.push(outcome(test, judged));
    }
    outcomes
}

/// Its end, and whether it was stuck when its time was up.
fn start(
    program: &Path,
    runtime: &str,
    under: Under,
    patience: Duration,
) -> Result<(Finished, bool), Trouble> {
    let tunable = format!("glibc.pthread.rseq={}", u8::from(under.libc_on));
    let mut started = command(program);
    started
        .args([runtime, under.owner])
        .env("GLIBC_TUNABLES", tunable);
    process::run_and_look(&mut started, patience, is_stuck)
        .map(|(finished, stuck)| (finished, stuck.unwrap_or(false)))
        .map_err(|error| Trouble::Broken(format!("did not start: {error}")))
}

fn content(finished: &Finished) -> Verdict {
    let counts = finished
        .output
        .lines()
        .find(|line| line.contains("threads "));
    if finished.ok() {
        Verdict::Passed(counts.unwrap_or_default().to_owned())
    } else {
        Verdict::Failed(finished.end.to_string())
    }
}

fn dead(finished: &Finished, _: bool) -> Verdict {
    match finished.end {
        End::Signal(signal) if signal == SIGSEGV as i32 => {
            Verdict::Passed(format!("dies: {}", finished.end))
        }
        end => Verdict::Failed(format!("it is to die of SIGSEGV: {end}")),
    }
}

fn hung(finished: &Finished, stuck: bool) -> Verdict {
    match finished.end {
        End::TimedOut(_) if stuck => Verdict::Passed(format!("hangs: {}", finished.end)),
        end => Verdict::Failed(format!("it is to hang with the signal pending: {end}")),
    }
}

/// A thread blocks the signal that it is to take, and no thread has run for a while: a slow one is not stuck.
fn is_stuck(process: u32) -> bool {
    let before = threads(process);
    std::thread::sleep(PAUSE);
    // With the counts of context switches.
    before.iter().any(|status| waits_for_ever(status)) && before == threads(process)
}

/// The status of each thread, as the kernel tells it.
fn threads(process: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok())
        .collect()
}

/// The signal is pending on this very thread, and blocked there.
fn waits_for_ever(status: &str) -> bool {
    let has = |set: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(set));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.unwrap_or(0) >> (SETXID - 1) & 1 == 1
    };
    has("SigPnd:") && has("SigBlk:")
}

fn build(lab: &Lab, arch: Arch, musl: bool, broken: Option<&str>) -> Result<PathBuf, Trouble> {
    let target = if musl {
        arch.target().replace("-gnu", "-musl")
    } else {
        arch.target().to_owned()
    };
    if !compiler::has_std(&target, lab.install, &lab.progress) {
        return Err(Trouble::Missing(format!(
            "no toolchain of this machine has std for {target}"
        )));
    }
    let folder = lab.root.join("target/embed/runtimes");
    let mut cargo = Compiler::Current.build();
    cargo
        .current_dir(&lab.root)
        .args(["--quiet", "--release", "--package", "foreign-runtimes"])
        .args(["--target", &target, "--target-dir"])
        .arg(&folder)
        // It is not the speed that is tested.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_TERM_COLOR", "never");
    if let Some(feature) = broken {
        cargo.args(["--features", feature]);
    }
    let built = process::run(&mut cargo, Duration::from_secs(600))
        .map_err(|error| Trouble::Missing(format!("cargo did not start: {error}")))?;
    if !built.ok() {
        return Err(Trouble::Broken(format!(
            "does not build: {}",
            built.tail(8)
        )));
    }
    Ok(folder.join(target).join("release/foreign-runtimes"))
}
