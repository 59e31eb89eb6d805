//! Kernel images from the distribution's packages.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::apt::{Apt, Candidate};
use super::kernel::{self, Kernel};
use super::systems::{Flavour, From, Image, Line, System};
use crate::arch::Arch;
use crate::context::Context;
use crate::process::lock;

/// Fetches the kernel of `image` for `arch` into the store. A suite without it may have been in mid-sync: the lists are
/// fetched again, a few times.
pub fn fetch(cx: &Context, image: &Image, arch: Arch) -> Result<Kernel> {
    let apt = apt(cx)?;
    let mut apt = lock(&apt);
    loop {
        let error = match fetch_listed(cx, &apt, image, arch) {
            Err(error) => error,
            fetched => return fetched,
        };
        cx.say(format!("{error:#}"));
        std::thread::sleep(Duration::from_secs(15));
        if !apt.update(cx)? {
            return Err(error);
        }
    }
}

/// The lists of packages, fetched once.
pub fn apt(cx: &Context) -> Result<Arc<Mutex<Apt>>> {
    cx.once("apt", || {
        let apt = Apt::open(&cx.store().join("apt"), cx)?;
        Ok(Arc::new(Mutex::new(apt)))
    })
}

/// The suites' packages for the image, in order of preference; names without the CPU.
fn offers(apt: &Apt, image: &Image, arch: Arch) -> Result<Vec<Candidate>> {
    match &image.from {
        From::Suites {
            flavour,
            line,
            suites,
        } => in_suites(apt, *flavour, line, suites, arch),
        From::Kept { line, at_most } => kept(apt, line, *at_most, arch),
        From::Source { .. } => bail!("{} is built, and not fetched", image.name),
    }
}

/// The version of a system's kernel: the stored one, else the one that the mirror offers.
pub fn version_of(cx: &Context, system: &System) -> Option<String> {
    if let Some(kernel) = kernel::cached(cx, system.image, system.arch) {
        return Some(kernel.version);
    }
    if !cx.install {
        return None;
    }
    let apt = apt(cx).ok()?;
    let offers = offers(&lock(&apt), system.image, system.arch).ok()?;
    offers.into_iter().next().map(|offer| offer.version)
}

fn in_suites(
    apt: &Apt,
    flavour: Flavour,
    line: &Line,
    suites: &[&str],
    arch: Arch,
) -> Result<Vec<Candidate>> {
    let meta = format!("linux-image-{}:{}", flavour.suffix(arch), arch.debian());
    let candidates = apt.candidates(&[&meta])?;
    let mut offers = Vec::new();
    for suite in suites {
        let here = candidates
            .iter()
            .filter(|one| one.suite == *suite && line.takes(&one.version));
        for candidate in here {
            let depends = apt.depends(&meta, &candidate.version)?;
            let mut images = depends.into_iter();
            let package = images
                .find(|name| name.starts_with("linux-image-"))
                .with_context(|| format!("{meta} {} names no image", candidate.version))?;
            offers.push(Candidate {
                package,
                ..candidate.clone()
            });
        }
    }
    Ok(offers)
}

fn kept(apt: &Apt, line: &str, at_most: u32, arch: Arch) -> Result<Vec<Candidate>> {
    let suffix = Flavour::Cloud.suffix(arch);
    let names = apt.names(&format!("linux-image-{line}."))?;
    let mut patches: Vec<(u32, &String)> = names
        .iter()
        .filter_map(|name| Some((patch_of(name, line, &suffix)?, name)))
        .filter(|(patch, _)| *patch <= at_most)
        .collect();
    patches.sort_by_key(|(patch, _)| std::cmp::Reverse(*patch));
    let packages: Vec<String> = patches
        .iter()
        .map(|(_, name)| format!("{name}:{}", arch.debian()))
        .collect();
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    if packages.is_empty() {
        return Ok(Vec::new());
    }
    // A name may be listed only because another package mentions it, without a candidate.
    let mut offers = apt.candidates(&packages)?;
    for offer in &mut offers {
        let end = offer.package.find(':').unwrap_or(offer.package.len());
        offer.package.truncate(end);
    }
    Ok(offers)
}

/// 13 of `linux-image-7.0.13+deb13-cloud-arm64`.
fn patch_of(name: &str, line: &str, suffix: &str) -> Option<u32> {
    let rest = name.strip_prefix("linux-image-")?.strip_prefix(line)?;
    let (patch, build) = rest.strip_prefix('.')?.split_once('+')?;
    let (build, flavour) = build.split_once('-')?;
    let plain = build.starts_with("deb") && flavour == suffix;
    plain.then(|| patch.parse().ok()).flatten()
}

fn fetch_listed(cx: &Context, apt: &Apt, image: &Image, arch: Arch) -> Result<Kernel> {
    let mut last = None;
    for offer in offers(apt, image, arch)? {
        let _step = cx.step(format!(
            "fetching Linux {} for {arch} from {}",
            offer.version, offer.suite
        ));
        match fetch_one(cx, apt, image, arch, &offer) {
            Ok(kernel) => return Ok(kernel),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(error),
        None => bail!("the mirror offers no Linux {} for {arch} now", image.name),
    }
}

fn fetch_one(
    cx: &Context,
    apt: &Apt,
    image: &Image,
    arch: Arch,
    offer: &Candidate,
) -> Result<Kernel> {
    let into = tempfile::tempdir_in(cx.store())?;
    // From 6.19 on the image itself is in linux-binary-*.
    let binary = offer.package.replacen("linux-image-", "linux-binary-", 1);
    let mut last = None;
    for name in [&binary, &offer.package] {
        let package = format!("{name}:{}", arch.debian());
        if let Err(error) = apt.unpack(&package, into.path()) {
            last = Some(error);
        } else if let Some(path) = vmlinuz(into.path()) {
            let kernel = Kernel {
                image: PathBuf::new(),
                version: offer.version.clone(),
                package,
                made_of: None,
            };
            return kernel::keep(cx, &path, image, arch, kernel);
        }
    }
    let none = || anyhow::anyhow!("no vmlinuz in the packages of {}", offer.version);
    Err(last.unwrap_or_else(none))
}

/// The image in an unpacked package.
fn vmlinuz(root: &Path) -> Option<PathBuf> {
    let entries = |folder: &str| {
        let entries = std::fs::read_dir(root.join(folder)).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path()))
    };
    let is_image = |path: &PathBuf| {
        let name = path.file_name();
        name.is_some_and(|name| name.to_string_lossy().starts_with("vmlinu"))
    };
    let in_modules = entries("usr/lib/modules").map(|path| path.join("vmlinuz"));
    let old = entries("boot").find(is_image);
    old.or_else(|| in_modules.into_iter().find(|path| path.is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_package_is_of_its_line_and_flavour() {
        let patch = |name| patch_of(name, "7.0", "cloud-arm64");
        assert_eq!(patch("linux-image-7.0.13+deb13-cloud-arm64"), Some(13));
        assert_eq!(patch("linux-image-7.0.13+deb13-cloud-arm64-dbg"), None);
        assert_eq!(patch("linux-image-7.0.13+deb13-cloud-amd64"), None);
        assert_eq!(patch("linux-image-7.01.3+deb13-cloud-arm64"), None);
    }
}
