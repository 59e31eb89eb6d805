//! A real program with many threads, from the distribution's sources, under our musl: pigz.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::muslmore::{Judged, required};
use super::muslprogram::{Kind, Programs};
use crate::apt::Apt;
use crate::arch::Arch;
use crate::lab::Lab;
use crate::musl::Variant;
use crate::outcome::{Trouble, Verdict};
use crate::process::{self, command};

/// Source packages, and a file that shows where each begins.
const SOURCES: [(&str, &str); 2] = [("zlib", "inflate.h"), ("pigz", "yarn.c")];

/// Suites that have them.
const SUITES: [&str; 4] = ["bookworm", "trixie", "forky", "sid"];

/// zlib without its file functions, which pigz brings itself.
const FILES: [(&str, &[&str]); 2] = [
    (
        "zlib",
        &[
            "adler32", "crc32", "deflate", "infback", "inffast", "inflate", "inftrees", "trees",
            "zutil",
        ],
    ),
    ("pigz", &["pigz", "yarn", "try"]),
];

/// How much is compressed, and how often.
const LENGTH: usize = 64 << 20;
const ROUNDS: usize = 6;
const THREADS: &str = "8";

/// The test.
pub fn test(lab: &Lab, arch: Arch, kind: Kind) -> Judged {
    let programs = Programs::open(lab, arch, Variant::Hooked).map_err(required)?;
    let sources = sources(lab).map_err(|why| Verdict::Missing(format!("{why:#}")))?;
    let pigz = build(&programs, &sources, kind).map_err(required)?;
    let work = tempfile::tempdir_in(programs.folder()).map_err(broken)?;
    let input = work.path().join("input");
    let original = data();
    std::fs::write(&input, &original).map_err(broken)?;
    let mut compressed = 0;
    for round in 0..ROUNDS {
        let level = if round == 0 { "-6" } else { "-1" };
        // Blocks of different sizes, so that work is dealt out differently.
        let block = ["128", "32", "64"][round % 3];
        finish(
            command(&pigz)
                .args([level, "-k", "-f", "-p", THREADS, "-b", block])
                .arg(&input),
        )?;
        let (packed, again) = (input.with_extension("gz"), work.path().join("again"));
        std::fs::rename(&packed, again.with_extension("gz")).map_err(broken)?;
        compressed = std::fs::metadata(again.with_extension("gz"))
            .map_err(broken)?
            .len();
        finish(
            command(&pigz)
                .args(["-d", "-f", "-p", THREADS])
                .arg(again.with_extension("gz")),
        )?;
        if std::fs::read(&again).map_err(broken)? != original {
            return Err(Verdict::Failed(format!("round {round}: not what went in")));
        }
    }
    Ok(format!(
        "{} MiB to {} MiB and back, {ROUNDS} times with {THREADS} threads",
        LENGTH >> 20,
        compressed >> 20
    ))
}

fn broken(why: std::io::Error) -> Verdict {
    Verdict::Failed(why.to_string())
}

/// A quarter noise, a quarter nothing, the rest words of sixteen letters: the same in each run.
fn data() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut data = Vec::with_capacity(LENGTH);
    while data.len() < LENGTH {
        let kind = next() % 4;
        for _ in 0..512 {
            let word = match kind {
                0 => next(),
                1 => 0,
                _ => 0x6162_6364_6566_6768 ^ (next() & 0x0f0f_0f0f_0f0f_0f0f),
            };
            data.extend(word.to_le_bytes());
        }
    }
    data
}

/// Where the two sources are, fetched if they are not in the store.
fn sources(lab: &Lab) -> Result<[PathBuf; 2]> {
    let mut found = Vec::new();
    for (package, file) in SOURCES {
        let store = lab.store().join(format!("{package}-source"));
        if unpacked(&store, file).is_none() {
            fetch(lab, package, &store)?;
        }
        let source = unpacked(&store, file);
        found.push(source.with_context(|| format!("the source package of {package} is empty"))?);
    }
    found.try_into().ok().context("two packages")
}

fn unpacked(store: &Path, file: &str) -> Option<PathBuf> {
    let folders = std::fs::read_dir(store).ok()?.filter_map(Result::ok);
    folders
        .map(|entry| entry.path())
        .find(|path| path.join(file).exists())
}

fn fetch(lab: &Lab, package: &str, store: &Path) -> Result<()> {
    if !lab.install {
        bail!(
            "the source of {package} is not in target/xtask, and --no-install forbids to fetch it"
        );
    }
    let _step = lab
        .progress
        .step(format!("fetching the source of {package}"));
    let new = store.with_extension("new");
    let mut last = None;
    for suite in SUITES {
        let _ = std::fs::remove_dir_all(&new);
        std::fs::create_dir_all(&new)?;
        let fetched = Apt::open_sources(&lab.store().join("apt-source"), suite, &lab.progress)
            .and_then(|apt| apt.source(package, &new));
        match fetched {
            Ok(()) => {
                let _ = std::fs::remove_dir_all(store);
                return Ok(std::fs::rename(&new, store)?);
            }
            Err(why) => last = Some(why),
        }
    }
    Err(last.context("no suite")?)
}

/// Compiles both in one go, with what a position-independent program takes, and links.
fn build(programs: &Programs, sources: &[PathBuf; 2], kind: Kind) -> Result<PathBuf, Trouble> {
    let program = programs.folder().join(format!("pigz-{}", kind.name()));
    let newer = |file: &Path| file.metadata().and_then(|data| data.modified()).ok();
    if newer(&program) > newer(&programs.libc(kind)) {
        return Ok(program);
    }
    let mut compile = command(programs.gcc());
    compile.args(["-O1", "-w", "-pthread", "-DNOZOPFLI", "-DHAVE_UNISTD_H"]);
    if kind == Kind::Static {
        compile.arg("-static");
    }
    compile.arg("-I").arg(&sources[0]).arg("-o").arg(&program);
    for (folder, (_, files)) in sources.iter().zip(FILES) {
        compile.args(files.iter().map(|file| folder.join(format!("{file}.c"))));
    }
    finish(compile.arg("-lm")).map_err(|why| match why {
        Verdict::Failed(why) => Trouble::Broken(format!("pigz does not compile: {why}")),
        _ => Trouble::Missing("musl-gcc does not start".to_owned()),
    })?;
    Ok(program)
}

fn finish(command: &mut Command) -> Result<(), Verdict> {
    let run = process::run(command, Duration::from_secs(300))
        .map_err(|why| Verdict::Missing(why.to_string()))?;
    if run.ok() {
        return Ok(());
    }
    Err(Verdict::Failed(format!("{}: {}", run.end, run.tail(4))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_is_partly_compressible_and_always_the_same() {
        let data = data();
        assert_eq!(data.len(), LENGTH);
        assert!(data.windows(64).any(|part| part == [0; 64]));
        assert_eq!(data, super::data());
    }
}
