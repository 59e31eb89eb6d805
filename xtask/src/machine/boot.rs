//! Runs a program at a place: natively, under qemu-user, or as PID 1 of a kernel in qemu.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::kernel::{self, Kernel};
use super::place::{Machine, Place};
use super::systems::{From, System};
use super::{initramfs, packages, source};
use crate::arch::Arch;
use crate::context::Context;
use crate::outcome::Missing;
use crate::process::{self, End, Finished, FirstWord, Limits, command, tool};

/// The size and options of an emulated machine.
pub struct Setup {
    /// Memory, in qemu's syntax.
    pub memory: &'static str,
    /// Further kernel parameters, with a leading blank.
    pub options: &'static str,
}

pub const USUAL: Setup = Setup {
    memory: "256",
    options: "",
};

pub const NO_ARGUMENTS: [&str; 0] = [];

pub struct Run {
    pub finished: Finished,
    /// The kernel: the image's version, or a description.
    pub kernel: String,
}

/// The kernel of a row of the table, fetched or built on demand.
fn kernel(cx: &Context, system: &System) -> Result<Kernel> {
    let (image, arch) = (system.image, system.arch);
    if let Some(kernel) = kernel::cached(cx, image, arch) {
        return Ok(kernel);
    }
    let name = image.name;
    if !cx.install {
        return Err(Missing::required(format!(
            "Linux {name} for {arch} is not in target/xtask, and --no-install forbids to fetch it"
        )));
    }
    cx.once(format!("kernel/{name}/{arch}"), || {
        match image.from {
            From::Source { package, suites } => source::build(cx, image, (package, suites), arch),
            From::Suites { .. } | From::Kept { .. } => packages::fetch(cx, image, arch),
        }
        .map_err(Missing::from)
    })
}

/// Fetches the kernel of `place` now; errors are reported to its user later. A kernel that is built waits for its turn:
/// the build would disturb jobs that want the machine to themselves.
pub fn prefetch(cx: &Context, place: Place) {
    let fetched = |system: &&System| !matches!(system.image.from, From::Source { .. });
    if let Some(system) = place.system().filter(fetched) {
        let _ = kernel(cx, system);
    }
}

/// Runs `program` at `place`; an error means that it could not be run. On a booted machine it is `/init`, and `more`
/// files lie beside it.
pub fn run(
    cx: &Context,
    place: Place,
    program: &Path,
    more: &[(&str, PathBuf)],
    arguments: &[impl AsRef<str>],
) -> Result<Run> {
    run_on(cx, place, &USUAL, program, more, arguments)
}

/// The same on another machine setup, where it boots.
pub fn run_on(
    cx: &Context,
    place: Place,
    setup: &Setup,
    program: &Path,
    more: &[(&str, PathBuf)],
    arguments: &[impl AsRef<str>],
) -> Result<Run> {
    let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
    let kernel = match place.machine {
        Machine::Native => {
            let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
            let kernel = format!("Linux {}", release.unwrap_or_default().trim());
            return finish(cx, command(program).args(arguments), None, kernel);
        }
        Machine::User => {
            let mut emulator = tool(&place.arch.user_emulator())?;
            emulator.arg(program).args(&arguments);
            return finish(cx, &mut emulator, None, "qemu-user".to_owned());
        }
        Machine::Listed(system) => kernel(cx, system)?,
        Machine::Given(path) => Kernel::given(path),
    };
    let mut boot = tool(&place.arch.system_emulator())?;
    let folder = tempfile::tempdir()?;
    let archive = folder.path().join("initramfs");
    initramfs::write(program, more, &archive)?;
    command_line(&mut boot, place, setup, &kernel.image, &archive, &arguments);
    let kernel = format!("Linux {}", kernel.version);
    if place.arch != Arch::Riscv64 {
        return finish(cx, &mut boot, None, kernel);
    }
    let first = boot_with_first_word(cx, &mut boot, kernel.clone())?;
    if !matches!(first.finished.end, End::Silent(_)) {
        return Ok(first);
    }
    let (arch, end) = (place.arch, first.finished.end);
    cx.say(format!(
        "{arch}: nothing after the firmware, {end}: booting again"
    ));
    boot_with_first_word(cx, &mut boot, kernel)
}

/// As [`finish`], but fails early if nothing follows the firmware's output. Seen in two of some hundred boots: the
/// software emulator of qemu 7.2 does not start the kernel. If our program had a part in it, the second boot fails too.
fn boot_with_first_word(cx: &Context, boot: &mut Command, kernel: String) -> Result<Run> {
    let has_output = |said: &str| {
        let behind = said.rsplit_once("MEDELEG").map(|(_, behind)| behind);
        behind.is_some_and(|behind| behind.trim_end().lines().count() > 1)
    };
    finish(cx, boot, Some((FIRST_WORD, has_output)), kernel)
}

fn finish(
    cx: &Context,
    command: &mut Command,
    first_word: Option<FirstWord>,
    kernel: String,
) -> Result<Run> {
    let load = load();
    let limits = Limits {
        total: ALL * load,
        silence: cx.timeout * load,
        first_word: first_word.map(|(time, spoken)| (time * load, spoken)),
        inspect: |_| false,
    };
    let finished = process::run_within(command, limits)?;
    Ok(Run { finished, kernel })
}

/// The factor by which everything is slower than on an idle machine: runnable tasks per CPU, at most 10. A limit is not
/// a measurement, and exceeding it on a busy machine says nothing about the guest.
pub fn load() -> u32 {
    let load: f64 = std::fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .unwrap_or(1.0);
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get());
    (1..10)
        .find(|&each| load <= f64::from(each) * cpus as f64)
        .unwrap_or(10)
}

/// Many times a kernel's time to its first output on a busy machine.
const FIRST_WORD: Duration = Duration::from_secs(240);

/// The limit for a guest that writes for ever, as a kernel that reports its own hang does. Twice a busy machine's time.
const ALL: Duration = Duration::from_secs(1200);

/// The emulator's command line: a serial console, no display, no reboot.
fn command_line(
    boot: &mut Command,
    place: Place,
    setup: &Setup,
    image: &Path,
    archive: &Path,
    arguments: &[&str],
) {
    let system = place.system();
    let (board, console) = place.arch.board();
    let mut append = format!("console={console} quiet panic=-1");
    if place.arch == Arch::X86_64 {
        // On a busy machine the emulated timer may be too late for the kernel's timer check, which panics (seen once,
        // at a load of 47).
        append.push_str(" no_timer_check");
    }
    append.push_str(setup.options);
    for more in system.iter().map(|system| system.append) {
        append.push(' ');
        append.push_str(more);
    }
    if !arguments.is_empty() {
        append.push_str(" -- ");
        append.push_str(&arguments.join(" "));
    }
    boot.args(board)
        .args(["-smp", place.cpus(), "-m", setup.memory])
        .args(["-nographic", "-no-reboot"])
        // Of a repeated option the last one counts.
        .args(system.map_or(&[][..], |system| system.machine))
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(archive)
        .args(["-append", &append]);
}
