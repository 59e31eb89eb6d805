//! What the tests share: built guests, fetched kernels, and a way to run one
//! on the other. Everything is made on first use and once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::apt::Apt;
use crate::arch::Arch;
use crate::built;
use crate::compiler;
use crate::guests::{self, Guest};
use crate::initramfs;
use crate::kernel::{self, Kernel};
use crate::musl::{self, Release, Variant};
use crate::outcome::{Cell, Trouble};
use crate::place::{Booted, Machine, Place, system_emulator, user_emulator};
use crate::process::{self, End, Finished, FirstWord, Patience, command};
use crate::progress::Progress;
use crate::systems::{From, System};

/// A thing that was made, or the reason why it could not be.
type Made<T> = Result<T, Trouble>;

/// The shared part.
pub struct Lab {
    /// The workspace's root.
    pub root: PathBuf,
    /// The teller.
    pub progress: Progress,
    /// Whether this machine may be changed.
    pub install: bool,
    /// How long a guest may be silent until it is taken for hung.
    pub timeout: Duration,
    guests: [OnceLock<Made<PathBuf>>; 3],
    names: [OnceLock<Made<Vec<String>>>; 3],
    kernels: Mutex<Shelf>,
    musls: Mutex<HashMap<(Arch, Variant, Release), Made<PathBuf>>>,
}

#[derive(Default)]
struct Shelf {
    apt: Option<Made<Apt>>,
    known: HashMap<(&'static str, Arch), Made<Kernel>>,
}

/// What is usual of an emulated machine, and may be otherwise.
pub struct Board {
    /// Memory, as the emulator takes it.
    pub memory: &'static str,
    /// More of the kernel's command line, with a blank before it.
    pub options: &'static str,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            memory: "256",
            options: "",
        }
    }
}

/// A run of a guest.
pub struct Run {
    /// What it said and how it ended.
    pub finished: Finished,
    /// The kernel under it: the image's version, or in words.
    pub kernel: String,
}

impl Lab {
    /// A lab for the workspace this program was built from.
    pub fn new(install: bool, timeout: u64) -> Result<Lab> {
        let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let here = here.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        let root = here
            .ancestors()
            .nth(1)
            .context("the workspace's root")?
            .to_owned();
        std::fs::create_dir_all(root.join("target/xtask/kernels"))?;
        Ok(Lab {
            root,
            progress: Progress::new(),
            install,
            timeout: Duration::from_secs(timeout),
            guests: Default::default(),
            names: Default::default(),
            kernels: Mutex::default(),
            musls: Mutex::default(),
        })
    }

    /// Where caches and reports go.
    pub fn store(&self) -> PathBuf {
        self.root.join("target/xtask")
    }

    /// The guest's program for `arch`.
    pub fn guest(&self, arch: Arch, guest: Guest) -> Made<PathBuf> {
        let folder = self.guests[arch as usize].get_or_init(|| {
            let compiler = compiler::find(arch, self.install, &self.progress).map_err(missing)?;
            let how = if compiler == compiler::Compiler::Current {
                ""
            } else {
                ", core from source"
            };
            let _step = self
                .progress
                .step(format!("building the guests for {arch}{how}"));
            guests::build(&self.root, arch, &compiler, &self.progress)
        });
        folder.clone().map(|folder| folder.join(guest.file()))
    }

    /// The folder of a musl with `bin/musl-gcc`, built if need be.
    pub fn musl(&self, arch: Arch, variant: Variant) -> Made<PathBuf> {
        self.musl_of(Release::default(), arch, variant)
    }

    /// The same from another release's source.
    pub fn musl_of(&self, release: Release, arch: Arch, variant: Variant) -> Made<PathBuf> {
        let mut musls = self
            .musls
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let make = || musl::build(self, arch, variant, release, None);
        musls
            .entry((arch, variant, release))
            .or_insert_with(make)
            .clone()
    }

    /// The kernel of a place that boots, fetched or built if need be.
    pub fn kernel(&self, booted: &Booted, arch: Arch) -> Made<Kernel> {
        let system = match booted {
            Booted::Given(path) => return Ok(Kernel::given(path)),
            Booted::Listed(system) => system,
        };
        let (image, store) = (system.image, self.store().join("kernels"));
        if let Some(kernel) = kernel::cached(&self.root, &store, image, arch) {
            return Ok(kernel);
        }
        if !self.install {
            let why = format!(
                "Linux {} for {arch} is not in target/xtask, and --no-install forbids to fetch it",
                image.name
            );
            return Err(Trouble::Missing(why));
        }
        let mut shelf = self.shelf();
        let key = (image.name, arch);
        if let Some(known) = shelf.known.get(&key) {
            return known.clone();
        }
        let made = self.apt(&mut shelf).and_then(|apt| {
            match image.from {
                From::Source { package, suites } => built::build(
                    apt,
                    &self.root,
                    &store,
                    image,
                    (package, suites),
                    arch,
                    &self.progress,
                ),
                From::Suites { .. } | From::Kept { .. } => {
                    kernel::fetch(apt, &store, image, arch, &self.progress)
                }
            }
            .map_err(missing)
        });
        shelf.known.insert(key, made.clone());
        made
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.kernels
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The lists of packages, fetched once.
    fn apt<'shelf>(&self, shelf: &'shelf mut Shelf) -> Made<&'shelf mut Apt> {
        let open = || Apt::open(&self.store().join("apt"), &self.progress).map_err(missing);
        let apt = shelf.apt.get_or_insert_with(open);
        apt.as_mut().map_err(|why| why.clone())
    }

    /// The version of a system's kernel: of the one that is there, else of the one that the mirror offers.
    pub fn version_of(&self, system: &System) -> Option<String> {
        let store = self.store().join("kernels");
        if let Some(kernel) = kernel::cached(&self.root, &store, system.image, system.arch) {
            return Some(kernel.version);
        }
        if !self.install {
            return None;
        }
        let mut shelf = self.shelf();
        let apt = self.apt(&mut shelf).ok()?;
        kernel::offered(apt, system.image, system.arch)
    }

    /// Fetches the kernel of `place` now. What goes wrong is told to whoever needs it. One that is built waits for its
    /// turn: it would disturb those that want the machine to themselves.
    pub fn prefetch(&self, place: &Place) {
        let built = place.system().map(|system| &system.image.from);
        if let Machine::Kernel(booted) = &place.machine
            && !matches!(built, Some(From::Source { .. }))
        {
            let _ = self.kernel(booted, place.arch);
        }
    }

    /// Keeps a whole console, for those who look closer than a tail.
    pub fn keep_console(&self, family: &str, cell: &Cell, console: &str) {
        let folder = self.store().join("consoles");
        let file = folder.join(format!("{family}-{}.txt", cell.label.replace('/', "-")));
        let _ = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(file, console));
    }

    /// The version of the kernel at `place` if it is there already.
    pub fn known_version(&self, place: &Place) -> Option<String> {
        let image = place.system()?.image;
        let store = self.store().join("kernels");
        kernel::cached(&self.root, &store, image, place.arch).map(|kernel| kernel.short())
    }

    /// The names of the suite's tests for `arch`.
    pub fn suite_names(&self, arch: Arch) -> Made<Vec<String>> {
        let machine = if Arch::host() == Some(arch) {
            Machine::Native
        } else {
            Machine::User
        };
        let list = || {
            let run = self.run(
                &Place { arch, machine },
                Guest::Suite,
                &["--list".to_owned()],
            )?;
            let names = crate::protocol::names(&run.finished.output);
            if names.is_empty() {
                return Err(Trouble::Broken(format!(
                    "`suite --list` names no test: {}",
                    run.finished.end
                )));
            }
            Ok(names)
        };
        self.names[arch as usize].get_or_init(list).clone()
    }

    /// Runs a guest at `place`; an error means that it could not be run.
    pub fn run(&self, place: &Place, guest: Guest, arguments: &[String]) -> Made<Run> {
        let program = self.guest(place.arch, guest)?;
        self.run_program(place, &program, &[], arguments)
    }

    /// The same on a machine of another kind, where it boots.
    pub fn run_on(
        &self,
        place: &Place,
        board: &Board,
        guest: Guest,
        arguments: &[String],
    ) -> Made<Run> {
        let program = self.guest(place.arch, guest)?;
        self.run_program_on(place, board, &program, &[], arguments)
    }

    /// The same with a program of the caller's, and `more` files beside it where it boots as `/init`.
    pub fn run_program(
        &self,
        place: &Place,
        program: &Path,
        more: &[(&str, PathBuf)],
        arguments: &[String],
    ) -> Made<Run> {
        self.run_program_on(place, &Board::default(), program, more, arguments)
    }

    fn run_program_on(
        &self,
        place: &Place,
        board: &Board,
        program: &Path,
        more: &[(&str, PathBuf)],
        arguments: &[String],
    ) -> Made<Run> {
        let emulator = |name: String| {
            which::which(&name).map_err(|_| Trouble::Missing(format!("{name} is not installed")))
        };
        match &place.machine {
            Machine::Native => {
                let release = nix_release();
                self.finish(
                    command(program).args(arguments),
                    None,
                    format!("Linux {release}"),
                )
            }
            Machine::User => {
                let emulator = emulator(user_emulator(place.arch))?;
                self.finish(
                    command(emulator).arg(program).args(arguments),
                    None,
                    "qemu-user".to_owned(),
                )
            }
            Machine::Kernel(booted) => {
                let emulator = emulator(system_emulator(place.arch))?;
                let kernel = self.kernel(booted, place.arch)?;
                let folder = tempfile::tempdir().map_err(|error| missing(error.into()))?;
                let archive = folder.path().join("initramfs");
                initramfs::write(program, more, &archive).map_err(missing)?;
                let mut boot = boot(place, board, &emulator, &kernel.image, &archive, arguments);
                let kernel = format!("Linux {}", kernel.version);
                if place.arch != Arch::Riscv64 {
                    return self.finish(&mut boot, None, kernel);
                }
                let first = self.boot_that_speaks(&mut boot, kernel.clone())?;
                if !matches!(first.finished.end, End::Silent(_)) {
                    return Ok(first);
                }
                self.progress.say(format!(
                    "{}: firmware, and then {}: booted once more",
                    place.arch, first.finished.end
                ));
                self.boot_that_speaks(&mut boot, kernel)
            }
        }
    }

    /// As [`Self::finish`], unless nothing comes behind the firmware's words. Seen in two of some hundred boots: the
    /// software emulator of qemu 7.2 starts no kernel. Where our program had a part in it the second boot ends so too.
    fn boot_that_speaks(&self, boot: &mut Command, kernel: String) -> Made<Run> {
        let has_spoken = |said: &str| {
            let behind = said.rsplit_once("MEDELEG").map(|(_, behind)| behind);
            behind.is_some_and(|behind| behind.trim_end().lines().count() > 1)
        };
        self.finish(boot, Some((FIRST_WORD, has_spoken)), kernel)
    }

    fn finish(
        &self,
        command: &mut Command,
        first_word: Option<FirstWord>,
        kernel: String,
    ) -> Made<Run> {
        let load = load();
        let patience = Patience {
            all: ALL * load,
            silence: self.timeout * load,
            first_word: first_word.map(|(time, spoken)| (time * load, spoken)),
        };
        let finished = process::run_while_it_speaks(command, patience)
            .map_err(|error| Trouble::Broken(format!("did not start: {error}")))?;
        Ok(Run { finished, kernel })
    }
}

/// By how much all takes longer now than on a machine with nothing else to do: the runnable tasks for each CPU, 10 at
/// most. A limit is no measurement, and one that a busy machine reaches says nothing of the guest.
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

/// Many times what a kernel takes to its first word on a busy machine.
const FIRST_WORD: Duration = Duration::from_secs(240);

/// For one that would speak for ever, as a kernel does that tells of its own hang. Twice what a busy machine takes.
const ALL: Duration = Duration::from_secs(1200);

/// The emulator's command line: a serial console, no display, no reboot.
fn boot(
    place: &Place,
    machine: &Board,
    emulator: &Path,
    image: &Path,
    archive: &Path,
    arguments: &[String],
) -> Command {
    let system = place.system();
    let arch = place.arch;
    let (board, console) = arch.board();
    let mut append = format!("console={console} quiet panic=-1");
    if arch == Arch::X86_64 {
        // On a busy machine the emulated timer may come too late for the kernel's look at it, and it panics (seen once,
        // at a load of 47).
        append.push_str(" no_timer_check");
    }
    append.push_str(machine.options);
    for more in system.iter().map(|system| system.append) {
        append.push(' ');
        append.push_str(more);
    }
    if !arguments.is_empty() {
        append.push_str(" -- ");
        append.push_str(&arguments.join(" "));
    }
    let mut boot = command(emulator);
    boot.args(board).args([
        "-smp",
        system.map_or("2", |system| system.cpus),
        "-m",
        machine.memory,
        "-nographic",
        "-no-reboot",
    ]);
    // Of an option that comes twice the last one counts.
    boot.args(system.map_or(&[][..], |system| system.machine));
    boot.arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(archive)
        .args(["-append", &append]);
    boot
}

/// An error of this machine's.
fn missing(error: anyhow::Error) -> Trouble {
    Trouble::Missing(format!("{error:#}"))
}

/// The running kernel's release.
fn nix_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}
