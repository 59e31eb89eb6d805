//! A kernel image, and the store of fetched and built ones.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::systems::{From, Image, System, numbers};
use crate::arch::Arch;
use crate::context::Context;

/// An image on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kernel {
    /// `vmlinuz`
    pub image: PathBuf,
    /// E.g. `7.2.12-1`, or the file name of a given image.
    pub version: String,
    pub package: String,
    /// For a built image: a hash of its inputs.
    #[serde(default)]
    pub made_of: Option<String>,
}

impl Kernel {
    /// A file from the command line.
    pub fn given(image: &Path) -> Kernel {
        let name = image.file_name().unwrap_or(image.as_os_str());
        Kernel {
            image: image.to_owned(),
            version: name.to_string_lossy().into_owned(),
            package: "an image of yours".to_owned(),
            made_of: None,
        }
    }

    /// `7.2` of `7.2.12-1`.
    pub fn short(&self) -> String {
        match numbers(&self.version).as_slice() {
            [major, minor, ..] => format!("{major}.{minor}"),
            _ => self.version.clone(),
        }
    }
}

/// Copies `file` to where [`cached`] finds it.
pub fn keep(
    cx: &Context,
    file: &Path,
    image: &Image,
    arch: Arch,
    kernel: Kernel,
) -> Result<Kernel> {
    let folder = folder(cx, image, arch);
    std::fs::create_dir_all(&folder)?;
    let kernel = Kernel {
        image: folder.join("vmlinuz"),
        ..kernel
    };
    // A copy, since a rename fails across file systems; the record last, so that it describes a complete file.
    std::fs::copy(file, &kernel.image)?;
    let record = serde_json::to_vec_pretty(&kernel)?;
    std::fs::write(folder.join("kernel.json"), record)?;
    Ok(kernel)
}

/// The kernel of `image` for `arch`, if stored.
pub fn cached(cx: &Context, image: &Image, arch: Arch) -> Option<Kernel> {
    let folder = folder(cx, image, arch);
    let record = std::fs::read(folder.join("kernel.json")).ok()?;
    let mut kernel: Kernel = serde_json::from_slice(&record).ok()?;
    // The record may have moved with its checkout; the image lies beside it.
    kernel.image = folder.join("vmlinuz");
    let fresh = match image.from {
        From::Source { .. } => kernel.made_of == made_of(&cx.root, arch, &kernel.version).ok(),
        From::Suites { .. } | From::Kept { .. } => true,
    };
    (fresh && kernel.image.is_file()).then_some(kernel)
}

/// The short version of a row's kernel, if stored.
pub fn known_version(cx: &Context, system: &System) -> Option<String> {
    cached(cx, system.image, system.arch).map(|kernel| kernel.short())
}

fn folder(cx: &Context, image: &Image, arch: Arch) -> PathBuf {
    let store = cx.store().join("kernels");
    store.join(format!("{}-{arch}", image.name))
}

/// The configuration fragments of a built image, on top of `tinyconfig`.
pub fn fragments(root: &Path, arch: Arch) -> [PathBuf; 2] {
    let folder = root.join("tests-qemu/kernels");
    [
        folder.join("slice.config"),
        folder.join(format!("slice-{arch}.config")),
    ]
}

/// The hash of an image's inputs: a stored kernel is reused while it is unchanged.
pub fn made_of(root: &Path, arch: Arch, version: &str) -> Result<String> {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64; // FNV-1a: the same with each release of Rust
    let mut feed = |bytes: &[u8]| {
        for &byte in bytes.iter().chain(&[0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    };
    feed(version.as_bytes());
    for fragment in fragments(root, arch) {
        feed(&std::fs::read(fragment)?);
    }
    Ok(format!("{hash:016x}"))
}
