//! The families of tests. A family is one file here and one line in [`all`].

use crate::arch::Arch;
use crate::install::Need;
use crate::lab::Lab;
use crate::outcome::{Cell, Outcome};
use crate::place::Place;

mod archives;
mod bench;
mod capi;
mod cprogram;
mod demo;
mod golden;
mod green;
mod green_words;
mod host;
mod link;
mod musl;
mod muslmore;
mod muslnewer;
mod muslprogram;
mod olderlibc;
mod origin;
mod ownership;
mod pigz;
mod runtimes;
mod sections;
mod shared;
mod sharedcases;
mod sharedlibs;
mod sharedplan;
mod suite;

pub use golden::operation_sizes;
pub use green::program as green_program;
pub use link::code_sizes;

/// What the command line left of the matrix.
#[derive(Debug, Default)]
pub struct Selection {
    /// `--only`: parts of `family::test` names; empty means everything.
    pub only: Vec<String>,
    /// `--arch`
    pub arches: Vec<Arch>,
    /// The cells that `--arch`, `--kernel` and `--all-kernels` left.
    pub places: Vec<Place>,
    /// Whether no `--kernel` was given.
    pub any_kernel: bool,
    /// `--bless`: what is generated becomes what is expected.
    pub bless: bool,
}

impl Selection {
    /// The places that are wanted.
    pub fn places(&self) -> Vec<Place> {
        self.places.clone()
    }

    /// Whether `arch` is wanted.
    pub fn wants_arch(&self, arch: Arch) -> bool {
        self.arches.is_empty() || self.arches.contains(&arch)
    }

    /// Whether tests that run on no particular kernel are wanted.
    pub fn wants_kernel_free(&self) -> bool {
        self.any_kernel
    }

    /// Whether the test `family::test` is wanted.
    pub fn wants(&self, family: &str, test: &str) -> bool {
        let name = format!("{family}::{test}");
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }
}

/// What may run beside what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Needs the machine for itself: builds, and tests that count time or threads.
    Alone,
    /// An emulated machine; two of them run at a time.
    Boot,
}

/// A piece of work that yields outcomes.
pub struct Job<'lab> {
    /// What to tell while it runs.
    pub title: String,
    /// What may run beside it.
    pub lane: Lane,
    /// The place it boots at, whose kernel is fetched beforehand.
    pub boots: Option<Place>,
    /// The work.
    pub work: Box<dyn FnOnce() -> Vec<Outcome> + Send + 'lab>,
}

impl<'lab> Job<'lab> {
    /// One that boots nothing and wants the machine to itself.
    pub fn alone(
        title: impl Into<String>,
        work: impl FnOnce() -> Vec<Outcome> + Send + 'lab,
    ) -> Self {
        Self {
            title: title.into(),
            lane: Lane::Alone,
            boots: None,
            work: Box::new(work),
        }
    }

    /// One at `place`: beside another boot if it boots, else alone.
    pub fn at(
        place: Place,
        title: impl Into<String>,
        work: impl FnOnce(&Place) -> Vec<Outcome> + Send + 'lab,
    ) -> Self {
        Self {
            title: title.into(),
            lane: if place.boots() {
                Lane::Boot
            } else {
                Lane::Alone
            },
            boots: place.boots().then(|| place.clone()),
            work: Box::new(move || work(&place)),
        }
    }
}

/// A family of tests.
pub trait Family: Sync {
    /// The first half of its tests' names.
    fn name(&self) -> &'static str;

    /// The programs that the selected tests need.
    fn needs(&self, lab: &Lab, selection: &Selection) -> Vec<Need>;

    /// The selected tests, cell by cell, without running them.
    fn list(&self, lab: &Lab, selection: &Selection) -> Vec<(Cell, String)>;

    /// The selected tests as work. Called after the needs were installed.
    fn jobs<'lab>(&self, lab: &'lab Lab, selection: &Selection) -> Vec<Job<'lab>>;
}

/// All families, in the order they run.
pub fn all() -> Vec<Box<dyn Family>> {
    vec![
        Box::new(host::Host),
        Box::new(link::Link),
        Box::new(sections::Sections),
        Box::new(golden::Golden),
        Box::new(ownership::Ownership),
        Box::new(olderlibc::OlderLibc),
        Box::new(capi::Capi),
        Box::new(musl::Musl),
        Box::new(origin::Origin),
        Box::new(runtimes::Runtimes),
        Box::new(shared::Shared),
        Box::new(bench::Bench),
        Box::new(demo::Demo),
        Box::new(suite::Suite),
        Box::new(green::Green),
    ]
}

/// What a run at `place` lacks, besides what it says of itself.
fn place_needs(lab: &Lab, places: &[Place]) -> Vec<Need> {
    let mut needs: Vec<Need> = places.iter().flat_map(Place::needs).collect();
    for arch in Arch::ALL {
        if places.iter().any(|place| place.arch == arch) {
            needs.extend(crate::compiler::needs(arch, lab.install, &lab.progress));
        }
    }
    needs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_narrows() {
        let none = Selection {
            any_kernel: true,
            ..Selection::default()
        };
        assert!(none.wants("suite", "x") && none.wants_kernel_free());
        assert!(none.wants_arch(Arch::Aarch64));
        let some = Selection {
            only: vec!["suite::ke".into()],
            arches: vec![Arch::Riscv64],
            ..Selection::default()
        };
        assert!(some.wants("suite", "keep") && !some.wants("demo", "keep"));
        assert!(!some.wants_kernel_free() && !some.wants_arch(Arch::Aarch64));
    }
}
