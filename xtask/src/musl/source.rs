//! musl's source, from the distribution's source package.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::apt::Apt;
use crate::arch::Arch;
use crate::install::{self, Need};
use crate::lab::Lab;

/// Whose source package, by the distribution's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Release {
    /// 1.2.3; where that cannot be had, a newer one.
    #[default]
    Bookworm,
    /// 1.2.5, or newer.
    Trixie,
}

impl Release {
    /// The suites that have it, the preferred first.
    fn suites(self) -> &'static [&'static str] {
        let all = &["bookworm", "trixie", "forky", "sid"];
        match self {
            Release::Bookworm => all,
            Release::Trixie => &all[1..],
        }
    }

    /// Its own folder in a store.
    pub fn within(self, store: &Path) -> PathBuf {
        match self {
            Release::Bookworm => store.to_owned(),
            Release::Trixie => store.join("trixie"),
        }
    }
}

/// What fetching and building take.
pub fn install_needs(lab: &Lab, arch: Arch) {
    let why = "building musl";
    let mut needs = vec![
        Need::new("dpkg-source", &["dpkg-dev"], why),
        Need::new("make", &["make"], why),
        Need::new("gcc", &["gcc"], why),
    ];
    if Arch::host() != Some(arch) {
        needs.push(Need::new(
            arch.cross_linker(),
            &[arch.cross_linker_package()],
            why,
        ));
    }
    install::install(&needs, lab.install, &lab.progress);
}

/// The unpacked source, fetched if it is not in the store.
pub fn find(lab: &Lab, release: Release) -> Result<PathBuf> {
    let store = match release {
        Release::Bookworm => lab.store().join("musl-source"),
        Release::Trixie => lab.store().join("musl-source-trixie"),
    };
    if let Some(found) = unpacked(&store) {
        return Ok(found);
    }
    if !lab.install {
        bail!("musl's source is not in target/xtask, and --no-install forbids to fetch it");
    }
    let mut last = None;
    for suite in release.suites() {
        let fetched = fetch(lab, suite, &store);
        if let Err(why) = fetched {
            lab.progress.say(format!("musl's source: {suite}: {why:#}"));
            last = Some(why);
            continue;
        }
        return unpacked(&store).context("the source package holds no musl");
    }
    Err(last.context("no suite")?)
}

fn fetch(lab: &Lab, suite: &str, store: &Path) -> Result<()> {
    let apt = Apt::open_sources(&lab.store().join("apt-source"), suite, &lab.progress)?;
    let _step = lab
        .progress
        .step(format!("fetching musl's source ({suite})"));
    let new = store.with_extension("new");
    let _ = std::fs::remove_dir_all(&new);
    std::fs::create_dir_all(&new)?;
    apt.source("musl", &new)?;
    let _ = std::fs::remove_dir_all(store);
    std::fs::rename(&new, store)?;
    Ok(())
}

fn unpacked(store: &Path) -> Option<PathBuf> {
    std::fs::read_dir(store)
        .ok()?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.join("src/env/__init_tls.c").exists())
}
