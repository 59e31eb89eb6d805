//! The allocators compared: musl's, stock and per CPU, glibc's, and preloaded ones.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::plan::Plan;
use super::program::{Program, compile};
use crate::arch::Arch;
use crate::context::Context;
use crate::musl::{self, Release, Variant};
use crate::outcome::Missing;

pub const GROUP: &str = "malloc";

/// Variants, and the musl build of each.
const MUSLS: [(&str, Variant); 2] = [
    ("musl, stock", Variant::Stock),
    ("musl, per CPU", Variant::Percpu),
];

/// Variants under glibc, and the file and the package of each.
const PRELOADED: [(&str, &str, &str); 3] = [
    ("jemalloc", "libjemalloc.so.2", "libjemalloc2"),
    ("mimalloc", "libmimalloc.so.2.0", "libmimalloc2.0"),
    (
        "tcmalloc",
        "libtcmalloc_minimal.so.4",
        "libtcmalloc-minimal4",
    ),
];

/// The programs of each variant.
pub fn programs(cx: &Context, plan: &Plan) -> Vec<(&'static str, Result<Program>)> {
    let mut all = Vec::new();
    for (variant, musl) in MUSLS.into_iter().filter(|_| plan.musl) {
        all.push((variant, under_musl(cx, musl)));
    }
    let glibc = || compile(cx, Path::new("gcc"), "malloc.c", "glibc", &[]);
    all.push(("glibc", glibc()));
    let mut programs: Vec<_> = all
        .into_iter()
        .map(|(variant, file)| (variant, file.map(|file| program(variant, file, None))))
        .collect();
    for (variant, library, package) in PRELOADED {
        let with = glibc().and_then(|file| {
            let preload = find(library, package)?;
            Ok(program(variant, file, Some(preload)))
        });
        programs.push((variant, with));
    }
    programs
}

fn under_musl(cx: &Context, variant: Variant) -> Result<PathBuf> {
    let arch = Arch::host().context("this machine is none of the three CPUs")?;
    let gcc = musl::built(cx, Release::default(), arch, variant)?.join("bin/musl-gcc");
    compile(cx, &gcc, "malloc.c", variant.name(), &[])
}

fn program(variant: &str, file: PathBuf, preload: Option<PathBuf>) -> Program {
    Program {
        group: GROUP,
        variant: variant.to_owned(),
        // Each row starts threads.
        weight: 10,
        file,
        arguments: vec![GROUP.to_owned()],
        libc_owns: true,
        preload,
    }
}

/// Finds a preloaded library in Debian's library folders.
fn find(library: &str, package: &str) -> Result<PathBuf> {
    let arch = Arch::host().context("this machine is none of the three CPUs")?;
    let file = PathBuf::from(format!("/usr/lib/{arch}-linux-gnu/{library}"));
    let why = || format!("no {library} here: apt-get install {package}");
    file.exists()
        .then_some(file)
        .ok_or_else(|| Missing::optional(why()))
}
