//! The std crate in the threads of std, rayon and tokio, on a libc that owns rseq and on two that do not.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal::SIGSEGV;

use crate::arch::Arch;
use crate::case::{Case, Family};
use crate::cell::At;
use crate::compiler::{self, CORE, Compiler};
use crate::context::Context;
use crate::install::Need;
use crate::outcome::Failure;
use crate::process::{End, Finished, Limits, command, run_within, set_glibc_rseq};

pub const FAMILY: Family = Family {
    name: "runtimes",
    cases,
    needs: |_, _| {
        vec![Need::new(
            "cc",
            &["gcc", "libc6-dev"],
            "linking std programs",
        )]
    },
};

/// The runtimes, as arguments of the program.
const RUNTIMES: [&str; 3] = ["std", "rayon", "tokio"];

/// The libc, and the expected owner of rseq.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Under {
    pub name: &'static str,
    pub musl: bool,
    /// Whether glibc registers for itself.
    pub libc_on: bool,
    /// The owner that the program is to find.
    owner: &'static str,
}

const LIBC: Under = Under {
    name: "glibc/libc-owns",
    musl: false,
    libc_on: true,
    owner: "libc",
};

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

pub const UNDER: [Under; 3] = [LIBC, GLIBC, MUSL];

/// Seconds: the program takes one or two.
const PATIENCE: u64 = 120;
/// Seconds after which a broken variant is checked for a hang.
const HANG: u64 = 10;
/// Pause between two checks.
const PAUSE: Duration = Duration::from_secs(1);

/// The signals that glibc and musl send to every thread for setuid(3).
const SETXID: [u32; 2] = [33, 34];

/// Maximum runs of a broken variant until one shows the bug.
const ATTEMPTS: usize = 64;

fn cases(_: &Context, at: At) -> Result<Vec<Case>> {
    let At::Libcs(arch) = at else {
        return Ok(vec![]);
    };
    let mut cases = Vec::new();
    for under in UNDER {
        for runtime in RUNTIMES {
            let name = format!("{runtime}/{}", under.name);
            cases.push(Case::new(name, move |cx| whole(cx, arch, runtime, under)));
        }
    }
    // The thread's area is unmapped while registered: the program dies.
    cases.push(Case::new("std/musl/without-release", move |cx| {
        broken(cx, arch, "without-release", "std", MUSL, |run| {
            run.check_death(SIGSEGV)
        })
    }));
    // A thread waits for the libc's lock with signals blocked, and the lock's holder waits for that thread to take a
    // signal: the program hangs.
    cases.push(Case::new("std/glibc/left-blocked", move |cx| {
        broken(cx, arch, "left-blocked", "std", GLIBC, hangs)
    }));
    // The same with the heap lock, held for a moment.
    cases.push(Case::new("rayon/musl/frees-blocked", move |cx| {
        broken(cx, arch, "frees-blocked", "rayon", MUSL, hangs)
    }));
    Ok(cases)
}

fn whole(cx: &Context, arch: Arch, runtime: &str, under: Under) -> Result<String> {
    let finished = start(cx, arch, None, runtime, under, PATIENCE)?;
    let said = finished.check("the program")?;
    let counts = said.lines().find(|line| line.contains("threads "));
    Ok(counts.unwrap_or_default().to_owned())
}

/// A broken variant may pass: one that hangs does in one run of eight, another in four of eight.
fn broken(
    cx: &Context,
    arch: Arch,
    variant: &str,
    runtime: &str,
    under: Under,
    judge: fn(Finished) -> Result<String>,
) -> Result<String> {
    let once = || judge(start(cx, arch, Some(variant), runtime, under, HANG)?);
    let mut last = once();
    for _ in 1..ATTEMPTS {
        if last.is_ok() {
            break;
        }
        last = once();
    }
    last
}

fn hangs(finished: Finished) -> Result<String> {
    match finished.end {
        End::TimedOut(_) if finished.inspected => Ok(format!("hangs: {}", finished.end)),
        end => {
            let why = format!("expected a hang with the signal pending: {end}");
            Err(Failure::error(why, finished.output))
        }
    }
}

/// Runs the program, and on a timeout checks whether it is stuck.
fn start(
    cx: &Context,
    arch: Arch,
    broken: Option<&str>,
    runtime: &str,
    under: Under,
    seconds: u64,
) -> Result<Finished> {
    let mut started = command(build(cx, arch, under.musl, broken.is_some())?);
    started.envs(broken.map(|variant| ("RSEQ_RT_STD_BROKEN", variant)));
    set_glibc_rseq(started.args([runtime, under.owner]), under.libc_on);
    let limits = Limits {
        inspect: is_stuck,
        ..Limits::seconds(seconds)
    };
    run_within(&mut started, limits)
}

/// A thread blocks the signal sent to it, and no thread has run for a while: a slow program is not stuck.
fn is_stuck(process: u32) -> bool {
    let before = threads(process);
    std::thread::sleep(PAUSE);
    // Including the context switch counts.
    before.iter().any(|status| waits_for_ever(status)) && before == threads(process)
}

/// The status file of each thread.
fn threads(process: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok())
        .collect()
}

/// The signal is pending for this very thread, and blocked there.
fn waits_for_ever(status: &str) -> bool {
    let has = |set: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(set));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.unwrap_or(0)
    };
    let waits = has("SigPnd:") & has("SigBlk:");
    SETXID.iter().any(|signal| waits >> (signal - 1) & 1 == 1)
}

/// `breakable`: built so that `RSEQ_RT_STD_BROKEN` selects a broken variant.
fn build(cx: &Context, arch: Arch, musl: bool, breakable: bool) -> Result<PathBuf> {
    let target = compiler::std_target(cx, arch, musl)?;
    // Builds with other flags would replace each other.
    let (folder, flags) = match breakable {
        true => ("target/embed/runtimes/broken", "--cfg=rseq_rt_std_broken"),
        false => ("target/embed/runtimes", ""),
    };
    let folder = cx.root.join(folder);
    let kept = folder.join(format!("{target}-program"));
    cx.once(kept.display().to_string(), || {
        let mut cargo = Compiler::Current.cargo("build", CORE, &target);
        cargo
            .args(["--quiet", "--package", "foreign-runtimes"])
            .arg("--target-dir")
            .arg(&folder)
            // Speed is not tested.
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
            .env("RUSTFLAGS", flags);
        compiler::build(cx, arch, cargo, "the program")?;
        let made = folder.join(&target).join("release/foreign-runtimes");
        std::fs::copy(made, &kept)?;
        Ok(kept.clone())
    })
}
