//! The origin of musl's source: a source package of the distribution, or a tree of the user's.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::context::Context;
use crate::machine::{RELEASES, source_package};
use crate::outcome::Missing;

/// The Debian release whose source package is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Release {
    /// 1.2.3; if unavailable, a newer one.
    #[default]
    #[value(alias = "1.2.3")]
    Bookworm,
    /// 1.2.5 or newer.
    #[value(alias = "1.2.5")]
    Trixie,
    /// 1.2.6 or newer.
    #[value(alias = "1.2.6")]
    Forky,
}

impl Release {
    /// The suites that have it, in order of preference.
    fn suites(self) -> &'static [&'static str] {
        match self {
            Release::Bookworm => &RELEASES,
            Release::Trixie => &RELEASES[1..],
            Release::Forky => &RELEASES[2..],
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    Release(Release),
    /// A tree, which is only read.
    Tree(PathBuf),
}

impl From<Release> for Source {
    fn from(release: Release) -> Source {
        Source::Release(release)
    }
}

impl Source {
    /// The tree if given, else the release.
    pub fn new(tree: Option<&Path>, release: Release) -> Result<Source> {
        let Some(tree) = tree else {
            return Ok(release.into());
        };
        let tree = std::fs::canonicalize(tree).with_context(|| tree.display().to_string())?;
        Ok(Source::Tree(tree))
    }

    /// The folder of the source, fetched if missing.
    pub fn fetched(&self, cx: &Context) -> Result<PathBuf> {
        let release = match self {
            Source::Tree(tree) => return Ok(tree.clone()),
            Source::Release(release) => *release,
        };
        let folder = self.named("musl-source");
        let mark = "src/env/__init_tls.c";
        source_package(cx, "musl", mark, release.suites(), &folder).map_err(Missing::from)
    }

    /// The source's folder in a store of builds.
    pub fn within(&self, store: &Path) -> PathBuf {
        self.suffix()
            .map_or_else(|| store.to_owned(), |suffix| store.join(suffix))
    }

    /// `name` with the source's suffix.
    pub fn named(&self, name: &str) -> String {
        self.suffix()
            .map_or_else(|| name.to_owned(), |suffix| format!("{name}-{suffix}"))
    }

    /// The suffix of the source; the default has none.
    fn suffix(&self) -> Option<&'static str> {
        match self {
            Source::Release(Release::Bookworm) => None,
            Source::Release(Release::Trixie) => Some("trixie"),
            Source::Release(Release::Forky) => Some("forky"),
            Source::Tree(_) => Some("source"),
        }
    }
}
