//! Which musl: the source it is made of, and what is inserted.

use std::path::{Path, PathBuf};

/// Which musl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Variant {
    /// With the hooks.
    Hooked,
    /// With the hooks, which register only where the environment has `MUSL_RSEQ=1`.
    Off,
    /// As the distribution has it, built with the same flags: for comparison.
    Stock,
    /// Broken on purpose: the hook of detached threads comes after the unmap, so never.
    DetachedAfterUnmap,
    /// Broken on purpose: detached threads have no exit hook.
    DetachedAbsent,
}

impl Variant {
    pub fn name(self) -> &'static str {
        match self {
            Variant::Hooked => "hooked",
            Variant::Off => "off",
            Variant::Stock => "stock",
            Variant::DetachedAfterUnmap => "detached-after-unmap",
            Variant::DetachedAbsent => "detached-absent",
        }
    }
}

/// The Debian release whose source package is used.
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
    pub fn suites(self) -> &'static [&'static str] {
        let all = &["bookworm", "trixie", "forky", "sid"];
        match self {
            Release::Bookworm => all,
            Release::Trixie => &all[1..],
        }
    }

    /// Its source in the store of downloads.
    pub fn folder(self) -> &'static str {
        match self {
            Release::Bookworm => "musl-source",
            Release::Trixie => "musl-source-trixie",
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
