//! Real kernels: which ones, and where their images come from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::apt::Apt;
use crate::arch::Arch;
use crate::progress::Progress;

/// A line of kernels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Line {
    /// The newest that Debian has in testing.
    Newest,
    /// The long-term kernel with the 6.3 fields and no slice extension.
    V6_12,
    /// The long-term kernel that knows only the first 20 bytes.
    V6_1,
    /// An image somebody gave on the command line.
    Image(PathBuf),
}

impl Line {
    /// The lines of the matrix.
    pub const ALL: [Line; 3] = [Line::Newest, Line::V6_12, Line::V6_1];

    /// What it is called before its version is known.
    pub fn name(&self) -> &str {
        match self {
            Line::Newest => "newest",
            Line::V6_12 => "6.12",
            Line::V6_1 => "6.1",
            Line::Image(_) => "image",
        }
    }

    /// Whether a user who typed `text` means this line: its name, a version
    /// in it, or for the newest any version from 7 on.
    pub fn is_meant_by(&self, text: &str) -> bool {
        let numbers = version(text);
        match self {
            Line::Newest => text == "newest" || numbers.is_some_and(|(major, _)| major >= 7),
            Line::Image(path) => path == Path::new(text),
            fixed => {
                text == fixed.name() || (numbers.is_some() && numbers == version(fixed.name()))
            }
        }
    }

    /// The line a user means; a path to a file is a line of its own.
    pub fn parse(text: &str) -> Result<Line> {
        if let Some(line) = Self::ALL.into_iter().find(|line| line.is_meant_by(text)) {
            return Ok(line);
        }
        let path = Path::new(text);
        if path.is_file() {
            return Ok(Line::Image(std::path::absolute(path)?));
        }
        bail!("no kernel {text:?}: newest, 7.2, 6.12, 6.1, or the path of an image")
    }

    /// The suites that have it, the preferred first.
    fn suites(&self) -> &'static [&'static str] {
        match self {
            Line::Newest => &["forky", "sid"],
            Line::V6_12 => &["bookworm-backports", "trixie-security", "trixie"],
            Line::V6_1 => &["bookworm-security", "bookworm"],
            Line::Image(_) => &[],
        }
    }

    /// Whether a candidate of that version belongs to this line.
    fn takes(&self, candidate: &str) -> bool {
        match self {
            Line::Image(_) => false,
            line => line.is_meant_by(candidate),
        }
    }

    /// CPUs to boot with.
    pub fn cpus(&self, arch: Arch) -> u32 {
        if arch == Arch::X86_64 && *self == Line::Newest {
            4
        } else {
            2
        }
    }
}

/// `(major, minor)` at the start of a version.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    let major = parts.next()?.parse().ok()?;
    Some((
        major,
        parts
            .next()
            .and_then(|minor| minor.parse().ok())
            .unwrap_or(0),
    ))
}

/// An image on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kernel {
    /// `vmlinuz`
    pub image: PathBuf,
    /// Such as `7.2.12-1`, or the file name of a given image.
    pub version: String,
    /// The package it came from.
    pub package: String,
}

impl Kernel {
    /// `7.2` of `7.2.12-1`.
    pub fn short(&self) -> String {
        version(&self.version).map_or_else(
            || self.version.clone(),
            |(major, minor)| format!("{major}.{minor}"),
        )
    }
}

/// The kernel of `line` for `arch` if it is there already.
pub fn cached(store: &Path, line: &Line, arch: Arch) -> Option<Kernel> {
    if let Line::Image(image) = line {
        let version = image.file_name()?.to_string_lossy().into_owned();
        return Some(Kernel {
            image: image.clone(),
            version,
            package: "an image of yours".to_owned(),
        });
    }
    let folder = folder(store, line, arch);
    let mut kernel: Kernel =
        serde_json::from_slice(&std::fs::read(folder.join("kernel.json")).ok()?).ok()?;
    // The record may have moved with its checkout; the image lies beside it.
    kernel.image = folder.join("vmlinuz");
    kernel.image.is_file().then_some(kernel)
}

fn folder(store: &Path, line: &Line, arch: Arch) -> PathBuf {
    store.join(format!("{}-{arch}", line.name()))
}

/// Fetches the kernel of `line` for `arch` into `store`.
///
/// Where a suite does not have it, its list may have been in mid-sync: the
/// lists are fetched again, a few times in all.
pub fn fetch(
    apt: &mut Apt,
    store: &Path,
    line: &Line,
    arch: Arch,
    progress: &Progress,
) -> Result<Kernel> {
    loop {
        let error = match fetch_listed(apt, store, line, arch, progress) {
            Err(error) => error,
            fetched => return fetched,
        };
        progress.say(format!("{error:#}"));
        std::thread::sleep(Duration::from_secs(15));
        if !apt.update(progress)? {
            return Err(error);
        }
    }
}

fn fetch_listed(
    apt: &Apt,
    store: &Path,
    line: &Line,
    arch: Arch,
    progress: &Progress,
) -> Result<Kernel> {
    let meta = format!("{}:{}", arch.kernel_package(), arch.debian());
    let candidates = apt.candidates(&meta)?;
    let mut last = None;
    for suite in line.suites() {
        for candidate in candidates
            .iter()
            .filter(|one| one.suite == *suite && line.takes(&one.version))
        {
            let _step = progress.step(format!(
                "fetching Linux {} for {arch} from {suite}",
                candidate.version
            ));
            match fetch_one(apt, store, line, arch, &meta, &candidate.version) {
                Ok(kernel) => return Ok(kernel),
                Err(error) => last = Some(error),
            }
        }
    }
    match last {
        Some(error) => Err(error),
        None => bail!("the mirror offers no Linux {} for {arch} now", line.name()),
    }
}

fn fetch_one(
    apt: &Apt,
    store: &Path,
    line: &Line,
    arch: Arch,
    meta: &str,
    version: &str,
) -> Result<Kernel> {
    let image = apt
        .depends(meta, version)?
        .into_iter()
        .find(|name| name.starts_with("linux-image-"));
    let image = image.with_context(|| format!("{meta} {version} names no image"))?;
    let into = tempfile::tempdir_in(store)?;
    // From 7.x on the image itself is in linux-binary-*.
    let binary = image.replacen("linux-image-", "linux-binary-", 1);
    let mut found = None;
    let mut last = None;
    for name in [binary, image] {
        let package = format!("{name}:{}", arch.debian());
        if let Err(error) = apt.unpack(&package, into.path()) {
            last = Some(error);
        } else if let Some(path) = vmlinuz(into.path()) {
            found = Some((package, path));
            break;
        }
    }
    let Some((package, path)) = found else {
        return Err(
            last.unwrap_or_else(|| anyhow::anyhow!("no vmlinuz in the packages of {version}"))
        );
    };
    let folder = folder(store, line, arch);
    std::fs::create_dir_all(&folder)?;
    let kernel = Kernel {
        image: folder.join("vmlinuz"),
        version: version.to_owned(),
        package,
    };
    std::fs::rename(path, &kernel.image)?;
    std::fs::write(
        folder.join("kernel.json"),
        serde_json::to_vec_pretty(&kernel)?,
    )?;
    Ok(kernel)
}

/// The image in an unpacked package.
fn vmlinuz(root: &Path) -> Option<PathBuf> {
    let entries = |path: PathBuf| {
        std::fs::read_dir(path)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .map(|entry| entry.path())
    };
    let old = entries(root.join("boot")).find(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("vmlinu"))
    });
    let new = || {
        entries(root.join("usr/lib/modules"))
            .map(|path| path.join("vmlinuz"))
            .find(|path| path.is_file())
    };
    old.or_else(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_means_its_line() {
        assert_eq!(Line::parse("7.2").unwrap(), Line::Newest);
        assert_eq!(Line::parse("newest").unwrap(), Line::Newest);
        assert_eq!(Line::parse("6.12.95").unwrap(), Line::V6_12);
        assert_eq!(Line::parse("6.1").unwrap(), Line::V6_1);
        assert!(Line::parse("6.13").is_err());
        assert!(Line::V6_1.takes("6.1.192-2") && !Line::V6_1.takes("6.12.95-1~bpo12+1"));
    }

    #[test]
    fn a_short_version() {
        let kernel = |version: &str| Kernel {
            image: PathBuf::new(),
            version: version.into(),
            package: String::new(),
        };
        assert_eq!(kernel("6.12.95-1~bpo12+1").short(), "6.12");
        assert_eq!(kernel("vmlinuz-mine").short(), "vmlinuz-mine");
    }
}
