//! The build folder of a variant: source, insertions, objects.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::insertions::{insertions, version};
use super::percpu;
use super::places;
use super::variant::Variant;
use crate::arch::Arch;
use crate::context::Context;
use crate::process::{command, copy_folder, output};

/// Our files, and their places in musl.
const OURS: [(&str, &str); 4] = [
    ("include/sys/rseq.h", include_str!("sys_rseq.h")),
    ("src/internal/rseq_impl.h", include_str!("rseq_impl.h")),
    (HOOKS, include_str!("rseq.c")),
    ("src/thread/rseq_kept.c", include_str!("rseq_kept.c")),
];

/// The file that calls the library.
const HOOKS: &str = "src/thread/rseq.c";

/// The library's header.
const HEADER: &str = "src/internal/rseq_rt.h";

/// Sets the switch of `rseq.c` for a build whose programs must opt in.
const OFF: &str = "#define MUSL_RSEQ_DEFAULT 0\n";

/// Sets the switches of `rseq.c` and `percpu.c`.
const WITH_PERCPU: &str = "#define MUSL_RSEQ_PERCPU\n";
const BROKEN: &str = "#define MALLOC_PERCPU_BROKEN\n";

/// Build output in the source folder.
const MADE: [&str; 3] = ["obj", "lib", "config.mak"];

/// File contents by path relative to the root of musl's source.
pub type Files = BTreeMap<&'static str, String>;

/// The full text of each file that a variant changes or adds. An error names every missing place.
pub fn contents(cx: &Context, source: &Path, variant: Variant) -> Result<Files> {
    let all = insertions(source, version(source)?, variant);
    let (mut files, mut missed) = (Files::new(), Vec::new());
    for one in &all {
        if files.contains_key(one.file) {
            continue;
        }
        let text = std::fs::read_to_string(source.join(one.file)).unwrap_or_else(|why| {
            missed.push(format!("{}:1: {why}", one.file));
            String::new()
        });
        files.insert(one.file, text);
    }
    for (file, text) in &mut files {
        match places::insert(text, all.iter().filter(|one| one.file == *file)) {
            Ok(inserted) => *text = inserted,
            // A missing file has no places either.
            Err(_) if text.is_empty() => {}
            Err(more) => missed.extend(more),
        }
    }
    ensure!(
        missed.is_empty(),
        "{}: not a musl that the insertions support; nothing was changed:\n{}",
        source.display(),
        missed.join("\n")
    );
    if variant == Variant::Stock {
        return Ok(files);
    }
    let added = added(cx, variant)?;
    for file in added.keys() {
        let there = source.join(file).exists();
        ensure!(
            !there,
            "{file}:1: is there already, so rseq is in this musl"
        );
    }
    files.extend(added);
    Ok(files)
}

/// Our files in a variant.
fn added(cx: &Context, variant: Variant) -> Result<Files> {
    let header = |name: &str| std::fs::read_to_string(cx.root.join("include").join(name));
    let mut files = Files::from(OURS.map(|(file, text)| (file, text.to_owned())));
    files.insert(HEADER, header("rseq_rt.h")?);
    if variant.is_percpu() {
        files.extend(percpu::FILES.map(|(file, text)| (file, text.to_owned())));
        for (file, name) in percpu::HEADERS {
            files.insert(file, header(name)?);
        }
    }
    let mut define = |file, line| {
        files
            .entry(file)
            .and_modify(|text: &mut String| text.insert_str(0, line));
    };
    match variant {
        Variant::Off => define(HOOKS, OFF),
        Variant::Percpu => define(HOOKS, WITH_PERCPU),
        Variant::PercpuBroken => {
            define(HOOKS, WITH_PERCPU);
            define(percpu::SOURCE, BROKEN);
        }
        _ => {}
    }
    Ok(files)
}

/// Makes `folder`/build current: from the source, or from the build of `base`, rebuilding only what differs. `library`
/// is the library's assembly file. Returns the stamp that identifies this build.
pub fn make(
    cx: &Context,
    arch: Arch,
    variant: Variant,
    source: &Path,
    library: &Path,
    folder: &Path,
    base: Option<&Path>,
) -> Result<String> {
    let files = contents(cx, source, variant)?;
    let stamp = stamp(variant, source, library, &files)?;
    let stamped = folder.join("stamp");
    if std::fs::read_to_string(&stamped).is_ok_and(|old| old == stamp) {
        return Ok(stamp);
    }
    let _step = cx.step(format!("building musl for {arch} ({})", variant.name()));
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder)?;
    let build = folder.join("build");
    if let Some(base) = base {
        copy_folder(&base.join("build"), &build)?;
        let mut stale = Vec::new();
        let hooked = contents(cx, source, Variant::Hooked)?;
        let touched: BTreeSet<&str> = hooked.keys().chain(files.keys()).copied().collect();
        for file in touched {
            // A file changed by the base but not by this variant is restored.
            let now = match files.get(file) {
                Some(text) => Some(text.clone()),
                None => std::fs::read_to_string(source.join(file)).ok(),
            };
            let path = build.join(file);
            if now == std::fs::read_to_string(&path).ok() {
                continue;
            }
            match now {
                Some(text) => std::fs::write(path, text)?,
                None => std::fs::remove_file(path)?,
            }
            stale.push(file);
        }
        forget(&build, &stale)?;
    } else {
        fill(source, &files, &build)?;
        let name = library.file_name().context("the library's name")?;
        let into = build.join("arch").join(arch.name()).join(name);
        std::fs::copy(library, into).context("the assembly file")?;
        let mut configure = command("./configure");
        configure
            .current_dir(&build)
            .args(["--prefix=", "--syslibdir=/lib", "--disable-wrapper"])
            .arg(format!("--target={arch}"))
            .arg(format!("CC={}", arch.tool("gcc")))
            .arg(format!("AR={}", arch.tool("ar")))
            .arg(format!("RANLIB={}", arch.tool("ranlib")))
            // Records which object reads which file, for the variants.
            .arg("CFLAGS=-MMD");
        output(&mut configure, "configure", 1200)?;
    }
    run_make(arch, &build)?;
    std::fs::write(stamped, &stamp)?;
    Ok(stamp)
}

/// Copies the source, with these files, to a new folder.
pub fn fill(source: &Path, files: &Files, folder: &Path) -> Result<()> {
    copy_folder(source, folder)?;
    for name in MADE {
        let path = folder.join(name);
        if path.is_dir() {
            std::fs::remove_dir_all(path)?;
        } else if path.exists() {
            std::fs::remove_file(path)?;
        }
    }
    for (file, text) in files {
        std::fs::write(folder.join(file), text).with_context(|| (*file).to_owned())?;
    }
    Ok(())
}

/// `IMPH` declares that every object reads these headers; the real dependencies are in the .d files.
fn run_make(arch: Arch, build: &Path) -> Result<()> {
    let jobs = std::thread::available_parallelism().map_or(2, usize::from);
    let mut make = command("make");
    make.current_dir(build)
        .args(["-s", "IMPH=", &format!("-j{jobs}")])
        .arg(format!("OBJCOPY={}", arch.tool("objcopy")))
        .arg("all");
    output(&mut make, "make", 1200).map(drop)
}

/// Removes the objects that were made from the `stale` files.
fn forget(build: &Path, stale: &[&str]) -> Result<()> {
    let mut folders = vec![build.join("obj")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "d") {
                let rule = std::fs::read_to_string(&path)?;
                let reads = |file: &&str| rule.split_whitespace().any(|word| word.ends_with(file));
                if stale.iter().any(reads) {
                    for ending in ["o", "lo"] {
                        let _ = std::fs::remove_file(path.with_extension(ending));
                    }
                }
            }
        }
    }
    // Assembler sources leave no .d.
    for file in stale.iter().filter(|file| file.ends_with(".s")) {
        for ending in ["o", "lo"] {
            let object = build.join("obj").join(file).with_extension(ending);
            let _ = std::fs::remove_file(object);
        }
    }
    let _ = std::fs::remove_dir_all(build.join("lib"));
    Ok(())
}

/// Identifies all inputs. Files of the source count by time and length.
fn stamp(variant: Variant, source: &Path, library: &Path, files: &Files) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    variant.hash(&mut hasher);
    source.hash(&mut hasher);
    let left_out: Vec<PathBuf> = MADE
        .iter()
        .chain(&[".git"])
        .map(|name| source.join(name))
        .collect();
    let mut folders = vec![source.to_owned()];
    while let Some(folder) = folders.pop() {
        let mut entries = std::fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>()?;
        entries.retain(|entry| !left_out.contains(&entry.path()));
        entries.sort_by_key(std::fs::DirEntry::path);
        for entry in entries {
            let data = entry.metadata()?;
            if data.is_dir() {
                folders.push(entry.path());
            } else {
                (entry.path(), data.len(), data.modified()?).hash(&mut hasher);
            }
        }
    }
    std::fs::read(library)?.hash(&mut hasher);
    super::specs::TEXTS.hash(&mut hasher);
    files.hash(&mut hasher);
    Ok(format!("{:016x}\n", hasher.finish()))
}

#[cfg(test)]
mod tests {
    use super::super::insertions::{COMMON, DETACHED};
    use super::super::vfork::VFORK;
    use super::*;

    #[test]
    fn a_place_that_should_be_there_is_missed() {
        let cx = Context::new(false, 1).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for text in ["1.2.5\n", "1.2\n", "1.1.24\n"] {
            std::fs::write(folder.path().join("VERSION"), text).unwrap();
            let why = contents(&cx, folder.path(), Variant::Hooked).unwrap_err();
            let wanted = if text == "1.2.5\n" {
                COMMON[0].file
            } else {
                text.trim()
            };
            assert!(why.to_string().contains(wanted), "{why}");
        }
    }

    #[test]
    fn every_insertion_is_in_the_guide() {
        let guide = include_str!("../../../docs/embedding.md");
        for one in COMMON.iter().chain(VFORK).chain([&DETACHED]) {
            assert!(guide.contains(&format!("`{}`", one.file)), "{}", one.file);
            // The call itself; includes and labels are described in words.
            for line in one.text.lines().map(str::trim) {
                let call = line.split(';').next().unwrap_or_default();
                if line.starts_with("__rseq") {
                    assert!(guide.contains(call), "{}: {call}", one.file);
                }
            }
        }
    }
}
