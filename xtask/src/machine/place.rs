//! The places where a guest can run: natively, under qemu-user, and as PID 1 of each kernel in the table.

use std::path::Path;

use anyhow::{Result, bail};

use super::systems::{From, SYSTEMS, System, Tier, numbers};
use super::{packages, source};
use crate::arch::Arch;
use crate::context::Context;
use crate::install::Need;

/// The kernel under the guest, or the emulator in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Machine {
    Native,
    /// qemu-user: another CPU, and no rseq(2).
    User,
    /// A kernel of the table, with the guest as PID 1.
    Listed(&'static System),
    /// The same with an image from the command line.
    Given(&'static Path),
}

/// A CPU, and the kernel or emulator under the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub arch: Arch,
    pub machine: Machine,
}

impl Place {
    /// The place where programs of that CPU run without booting a kernel.
    pub fn of_programs(arch: Arch) -> Place {
        let machine = match Arch::host() == Some(arch) {
            true => Machine::Native,
            false => Machine::User,
        };
        Place { arch, machine }
    }

    /// All places of the matrix on this machine, up to a tier.
    pub fn all(weekly: bool) -> Vec<Place> {
        let native = Arch::host().map(Place::of_programs);
        let user = Arch::ALL.map(|arch| Place {
            arch,
            machine: Machine::User,
        });
        let wanted = |system: &&System| weekly || system.tier == Tier::EveryRun;
        let listed = SYSTEMS.iter().filter(wanted).map(|system| Place {
            arch: system.arch,
            machine: Machine::Listed(system),
        });
        native.into_iter().chain(user).chain(listed).collect()
    }

    /// The row of the table, if any.
    pub fn system(&self) -> Option<&'static System> {
        match self.machine {
            Machine::Listed(system) => Some(system),
            _ => None,
        }
    }

    /// Whether the tests are incomplete without it.
    pub fn required(&self) -> bool {
        self.system().is_none_or(|system| system.required)
    }

    /// Whether the guest boots here as PID 1.
    pub fn boots(&self) -> bool {
        matches!(self.machine, Machine::Listed(_) | Machine::Given(_))
    }

    /// `-smp`
    pub fn cpus(&self) -> &'static str {
        self.system().map_or("2", |system| system.cpus)
    }

    /// The number of threads that run the CPUs of the booted machine.
    pub fn processors(&self) -> usize {
        // The first number: more CPUs may be plugged in later.
        let cpus = self.cpus().split(',').next();
        match self.arch.emulates_in_one_thread() {
            true => 1,
            false => cpus.and_then(|cpus| cpus.parse().ok()).unwrap_or(2),
        }
    }

    /// Whether it is the newest kernel with default settings.
    pub fn is_newest(&self) -> bool {
        self.system().is_some_and(System::is_newest)
    }

    /// Whether the test `family::test` runs here.
    pub fn runs(&self, family: &str, test: &str) -> bool {
        self.system().is_none_or(|system| system.runs(family, test))
    }

    /// Sort key and name of the column, with the kernel's version once it is known.
    pub fn column(&self, version: Option<&str>) -> (usize, String) {
        let (rank, name) = match self.machine {
            Machine::Native => (1, "native".to_owned()),
            Machine::User => (2, "user".to_owned()),
            Machine::Given(path) => {
                let name = path.file_name().unwrap_or(path.as_os_str());
                (3 + SYSTEMS.len(), name.to_string_lossy().into_owned())
            }
            Machine::Listed(system) => {
                let rank = SYSTEMS.iter().position(|other| other == system);
                let newest = version.unwrap_or("newest");
                let name = system.name.replacen("newest", newest, 1);
                (3 + rank.unwrap_or_default(), name)
            }
        };
        let order = 10 * rank + self.arch as usize;
        (order, format!("{}/{name}", self.arch))
    }

    /// The programs that run a guest here.
    pub fn needs(&self) -> Vec<Need> {
        let arch = self.arch;
        match self.machine {
            Machine::Native => return vec![],
            Machine::User => {
                let why = format!("running {arch} guests in user mode");
                return vec![Need::new(arch.user_emulator(), &["qemu-user"], why)];
            }
            Machine::Listed(_) | Machine::Given(_) => {}
        }
        let why = format!("booting {arch} kernels");
        let packages = arch.system_emulator_packages();
        let mut needs = vec![Need::new(arch.system_emulator(), packages, &why)];
        if arch == Arch::Riscv64 {
            let firmware = "/usr/share/qemu/opensbi-riscv64-generic-fw_dynamic.bin";
            needs.push(Need::new(firmware, &["opensbi"], why));
        }
        let built = |system: &System| matches!(system.image.from, From::Source { .. });
        if self.system().is_some_and(built) {
            needs.extend(source::needs(arch));
        }
        needs
    }

    /// Arguments of the demo: under qemu-user, without rseq(2), every thread would otherwise count as a failure.
    pub fn demo_arguments(&self) -> &'static [&'static str] {
        match self.machine {
            Machine::User => &["--expect-unavailable"],
            _ => &[],
        }
    }

    /// The scale at which the suites run.
    pub fn scale(&self) -> &'static str {
        match self.machine {
            Machine::Native => "native",
            Machine::User => "user",
            Machine::Listed(_) | Machine::Given(_) => "emulated",
        }
    }
}

/// The places selected by `--kernel`, `--arch` and `--all-kernels`.
pub fn select(cx: &Context, words: &[String], arches: &[Arch], weekly: bool) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    if words.is_empty() {
        places = Place::all(weekly);
        places.retain(|place| arches.is_empty() || arches.contains(&place.arch));
    }
    for word in words {
        for place in meant(cx, word, arches)? {
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }
    if places.is_empty() {
        bail!("no cell matches --arch and --kernel");
    }
    Ok(places)
}

/// The places that `word` selects: a file takes precedence, since its name may look like a version.
pub fn meant(cx: &Context, word: &str, arches: &[Arch]) -> Result<Vec<Place>> {
    let path = Path::new(word);
    if path.is_file() {
        let [arch] = *arches else {
            bail!("the CPU of {word} is unknown: give one --arch");
        };
        // Lives until the end of the run.
        let path: &'static Path = Box::leak(std::path::absolute(path)?.into_boxed_path());
        let machine = Machine::Given(path);
        return Ok(vec![Place { arch, machine }]);
    }
    named(word, arches, |system| packages::version_of(cx, system))
}

/// The same for names; `version_of` may have to query the mirror.
fn named(
    word: &str,
    arches: &[Arch],
    version_of: impl Fn(&System) -> Option<String>,
) -> Result<Vec<Place>> {
    let mut places = Place::all(true);
    places.retain(|place| arches.is_empty() || arches.contains(&place.arch));
    let is_name = |place: &Place| match place.machine {
        Machine::Native => word == "native",
        Machine::User => word == "user",
        _ => place.system().is_some_and(|system| system.name == word),
    };
    let known = Place::all(true).iter().any(is_name);
    let wanted = version(word);
    if known || wanted.is_none() {
        places.retain(is_name);
    } else if let Some(wanted) = wanted {
        let agrees = |text: &str| {
            let other = numbers(text);
            let both = wanted.len().min(other.len());
            both >= 2 && wanted[..both] == other[..both]
        };
        let by_name = |place: &Place| {
            let name = place.system().map_or("", |system| system.name);
            version(name).is_some() && agrees(name)
        };
        let by_version = |place: &Place| {
            let newest = place.system().filter(|system| system.is_newest());
            let version = newest.and_then(&version_of);
            version.is_some_and(|text| agrees(&text))
        };
        if places.iter().any(by_name) {
            places.retain(by_name);
        } else {
            places.retain(by_version);
        }
    }
    if places.is_empty() && !known {
        let names = names(version_of);
        bail!("no kernel and no file {word:?}: the kernels are {names}");
    }
    Ok(places)
}

/// The numbers of a text of only digits and dots.
fn version(text: &str) -> Option<Vec<u32>> {
    let parts = text.split('.').map(str::parse);
    let numbers: Result<Vec<u32>, _> = parts.collect();
    numbers.ok().filter(|numbers| numbers.len() >= 2)
}

/// The valid names, for the error message.
fn names(version_of: impl Fn(&System) -> Option<String>) -> String {
    let mut names: Vec<String> = vec!["native".to_owned(), "user".to_owned()];
    for system in SYSTEMS {
        let same = |other: &String| other.split(' ').next() == Some(system.name);
        if names.iter().any(same) {
            continue;
        }
        let newest = Some(system).filter(|one| one.is_newest());
        names.push(match newest.and_then(&version_of) {
            Some(version) => format!("{} ({version})", system.name),
            None => system.name.to_owned(),
        });
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(word: &str) -> usize {
        named(word, &[], |_| Some("7.2.12-1".to_owned())).map_or(0, |places| places.len())
    }

    #[test]
    fn a_word_means_what_it_says() {
        let counts = ["newest", "7.2", "7.2.12", "6.12", "6.12.95", "6.1", "user"].map(count);
        assert_eq!(counts, [3, 3, 3, 3, 3, 2, 3]);
        // A row of the weekly tier, selected by name.
        assert_eq!(["7.3", "newest-rt", "slice"].map(count), [2, 2, 2]);
        // No other version is the newest, and a missing file is not a version.
        for word in ["7.9", "6.13", "7", "7.3-mine.img", "", "vmlinuz"] {
            let error = named(word, &[], |_| Some("7.2.12-1".to_owned())).unwrap_err();
            let error = error.to_string();
            assert!(error.contains("newest (7.2.12-1), 6.12, 6.1"), "{error}");
        }
        // Debian has no 6.1 for riscv64; the word is still valid.
        let places = named("6.1", &[Arch::Riscv64], |_| None);
        assert!(places.unwrap().is_empty());
    }
}
