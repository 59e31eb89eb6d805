//! One variant's build folder: the source, the insertions, the objects.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::insertion::{Insertion, Side};
use super::insertions::{insertions, version};
use super::variant::Variant;
use crate::arch::Arch;
use crate::context::Context;
use crate::process::{command, output, tool};

/// The files that are ours, and where they go.
const OURS: [(&str, &str); 3] = [
    ("src/internal/rseq_impl.h", include_str!("rseq_impl.h")),
    ("src/thread/rseq.c", include_str!("rseq.c")),
    ("src/thread/rseq_kept.c", include_str!("rseq_kept.c")),
];

/// The switch of `rseq.c` for a build whose programs have to ask for rseq.
const OFF: &str = "#define MUSL_RSEQ_DEFAULT 0\n";

/// The source of the object that the library is linked into, and that object, without their endings.
const HOOKS_SOURCE: &str = "src/thread/rseq";
const HOOKS: &str = "obj/src/thread/rseq";

/// The text of each file that a variant changes or adds.
fn changed(source: &Path, arch: Arch, variant: Variant) -> Result<HashMap<&'static str, String>> {
    let mut files = HashMap::new();
    for one in insertions(version(source)?, arch, variant) {
        if !files.contains_key(one.file) {
            let path = source.join(one.file);
            let text = std::fs::read_to_string(&path).with_context(|| one.file.to_owned())?;
            files.insert(one.file, text);
        }
        let text = files.get_mut(one.file).context("just inserted")?;
        *text = insert(text, &one)?;
    }
    Ok(files)
}

/// The text with one insertion made.
fn insert(text: &str, one: &Insertion) -> Result<String> {
    let places: Vec<usize> = text.match_indices(one.anchor).map(|(at, _)| at).collect();
    let [place] = places[..] else {
        bail!(
            "{}: not a musl that the insertions were made for: {} places, where one is wanted, for {:?} ({})",
            one.file,
            places.len(),
            one.anchor,
            one.why
        );
    };
    let at = match one.side {
        Side::Before => place,
        Side::After => place + one.anchor.len(),
    };
    Ok(format!("{}{}{}", &text[..at], one.text, &text[at..]))
}

/// Makes `folder`/build current: from the source, or from the build of `base`, of which only what differs is
/// made again. Returns what tells this build from others.
pub fn make(
    cx: &Context,
    arch: Arch,
    variant: Variant,
    source: &Path,
    library: &Path,
    folder: &Path,
    base: Option<&Path>,
) -> Result<String> {
    let files = changed(source, arch, variant)?;
    let stamp = stamp(cx, variant, source, library, &files)?;
    let stamped = folder.join("stamp");
    if std::fs::read_to_string(&stamped).is_ok_and(|old| old == stamp) {
        return Ok(stamp);
    }
    let _step = cx.step(format!("building musl for {arch} ({})", variant.name()));
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder)?;
    let build = folder.join("build");
    copy(
        &base.map_or_else(|| source.to_owned(), |base| base.join("build")),
        &build,
    )?;
    // What the base has changed and this one has not goes back to what it was.
    let mut stale: Vec<String> = Vec::new();
    if base.is_some() {
        for one in insertions(version(source)?, arch, Variant::Hooked) {
            let now = match files.get(one.file) {
                Some(text) => text.clone(),
                None => std::fs::read_to_string(source.join(one.file))?,
            };
            if std::fs::read_to_string(build.join(one.file))? != now {
                std::fs::write(build.join(one.file), now)?;
                stale.push(one.file.to_owned());
            }
        }
    } else {
        for (file, text) in &files {
            std::fs::write(build.join(file), text)?;
        }
    }
    if variant == Variant::Stock {
        for (file, _) in OURS {
            std::fs::remove_file(build.join(file))?;
            for ending in ["o", "lo"] {
                let object = build.join("obj").join(file).with_extension(ending);
                let _ = std::fs::remove_file(object);
            }
        }
    } else if base.is_none() {
        for (file, text) in OURS {
            std::fs::write(build.join(file), text)?;
        }
        let header = cx.root.join("include/rseq_rt.h");
        std::fs::copy(header, build.join("src/internal/rseq_rt.h"))?;
    }
    if variant == Variant::Off {
        let file = build.join(format!("{HOOKS_SOURCE}.c"));
        let text = std::fs::read_to_string(&file)?;
        std::fs::write(file, format!("{OFF}{text}"))?;
    }
    if base.is_none() {
        let mut configure = command("./configure");
        configure
            .current_dir(&build)
            .args(["--prefix=", "--syslibdir=/lib", "--disable-wrapper"])
            .arg(format!("--target={arch}"))
            .arg(format!("CC={}", arch.tool("gcc")))
            .arg(format!("AR={}", arch.tool("ar")))
            .arg(format!("RANLIB={}", arch.tool("ranlib")))
            // Which object reads which file, for the variants.
            .arg("CFLAGS=-MMD");
        output(&mut configure, "configure", 1200)?;
    } else {
        forget(&build, &stale)?;
    }
    if base.is_none() || variant == Variant::Off {
        run_make(&build, &[&format!("{HOOKS}.o"), &format!("{HOOKS}.lo")])?;
        for ending in ["o", "lo"] {
            take_in(arch, library, &build.join(format!("{HOOKS}.{ending}")))?;
        }
    }
    run_make(&build, &["all"])?;
    std::fs::write(stamped, &stamp)?;
    Ok(stamp)
}

/// `IMPH` is a blanket "everything reads these headers"; what really does is in the .d files.
fn run_make(build: &Path, goals: &[&str]) -> Result<()> {
    let jobs = std::thread::available_parallelism().map_or(2, usize::from);
    let mut make = command("make");
    make.current_dir(build)
        .args(["-s", "IMPH=", &format!("-j{jobs}")])
        .args(goals);
    output(&mut make, "make", 1200).map(drop)
}

/// Links the library into the object of the hooks; of the names of both only what was hidden or the trio stays global.
fn take_in(arch: Arch, library: &Path, object: &Path) -> Result<()> {
    let whole = object.with_extension("whole");
    let mut link = tool(&arch.tool("ld"))?;
    link.args(["-r", "-o"]).arg(&whole).arg(object).arg(library);
    output(&mut link, "ld -r", 1200)?;
    let mut hide = tool(&arch.tool("objcopy"))?;
    hide.args(["--wildcard", "--localize-symbol=rseq_rt_*"])
        .arg(&whole)
        .arg(object);
    output(&mut hide, "objcopy", 1200)?;
    std::fs::remove_file(whole)?;
    Ok(())
}

/// Removes the objects that were made from the `stale` files.
fn forget(build: &Path, stale: &[String]) -> Result<()> {
    let mut folders = vec![build.join("obj")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "d") {
                let rule = std::fs::read_to_string(&path)?;
                let reads =
                    |file: &String| rule.split_whitespace().any(|word| word.ends_with(&**file));
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

/// Everything that goes in.
fn stamp(
    cx: &Context,
    variant: Variant,
    source: &Path,
    library: &Path,
    files: &HashMap<&str, String>,
) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    variant.hash(&mut hasher);
    source.hash(&mut hasher);
    std::fs::read(library)?.hash(&mut hasher);
    std::fs::read(cx.root.join("include/rseq_rt.h"))?.hash(&mut hasher);
    super::specs::TEXTS.hash(&mut hasher);
    OURS.hash(&mut hasher);
    let mut sorted: Vec<_> = files.iter().collect();
    sorted.sort();
    sorted.hash(&mut hasher);
    Ok(format!("{:016x}\n", hasher.finish()))
}

/// Copies a folder with its times, which make goes by.
fn copy(from: &Path, to: &PathBuf) -> Result<()> {
    let mut cp = command("cp");
    output(cp.arg("-a").arg(from).arg(to), "cp", 1200).map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::insertions::{COMMON, DETACHED};
    use super::super::vfork::VFORK;
    use super::*;

    #[test]
    fn an_insertion_goes_where_its_anchor_is() {
        let one = DETACHED;
        let text = format!("a\n{}z\n", one.anchor);
        let inserted = insert(&text, &one).unwrap();
        assert_eq!(inserted, format!("a\n{}{}z\n", one.text, one.anchor));
    }

    #[test]
    fn an_anchor_that_is_not_there_once_is_an_error() {
        let one = DETACHED;
        for text in [String::new(), one.anchor.repeat(2)] {
            let why = insert(&text, &one).unwrap_err().to_string();
            assert!(why.contains(one.file) && why.contains("places"), "{why}");
        }
    }

    #[test]
    fn a_place_that_should_be_there_is_missed() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["1.2.5\n", "1.2\n", "1.1.24\n"] {
            std::fs::write(folder.path().join("VERSION"), text).unwrap();
            let why = changed(folder.path(), Arch::Riscv64, Variant::Hooked).unwrap_err();
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
