//! pigz, a real program with many threads, from the distribution's sources, under the hooked musl.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::programs::{Kind, Programs};
use crate::arch::Arch;
use crate::context::Context;
use crate::machine::{RELEASES, source_package};
use crate::musl::Variant;
use crate::outcome::Missing;
use crate::process::{command, output};

/// Source packages, and a file that marks the root of each.
const SOURCES: [(&str, &str); 2] = [("zlib", "inflate.h"), ("pigz", "yarn.c")];

/// zlib without its file functions, which pigz has itself.
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

const LENGTH: usize = 32 << 20;
const ROUNDS: usize = 6;
const THREADS: &str = "8";

pub fn test(cx: &Context, arch: Arch, variant: Variant, kind: Kind) -> Result<String> {
    let programs = Programs::open(cx, arch, variant)?;
    let source = |(package, mark)| {
        let folder = format!("{package}-source");
        source_package(cx, package, mark, &RELEASES, &folder).map_err(Missing::from)
    };
    let [zlib, pigz] = SOURCES;
    let sources = [source(zlib)?, source(pigz)?];
    let pigz = build(&programs, &sources, kind)?;
    let work = tempfile::tempdir_in(programs.folder())?;
    let (input, again) = (work.path().join("input"), work.path().join("again"));
    let packed = again.with_extension("gz");
    let original = data();
    std::fs::write(&input, &original)?;
    let mut compressed = 0;
    for round in 0..ROUNDS {
        let level = if round == 0 { "-6" } else { "-1" };
        // Different block sizes distribute the work differently.
        let block = ["128", "32", "64"][round % 3];
        let mut pack = command(&pigz);
        pack.args([level, "-k", "-f", "-p", THREADS, "-b", block]);
        output(pack.arg(&input), "pigz", 300)?;
        std::fs::rename(input.with_extension("gz"), &packed)?;
        compressed = std::fs::metadata(&packed)?.len();
        let mut unpack = command(&pigz);
        unpack.args(["-d", "-f", "-p", THREADS]).arg(&packed);
        output(&mut unpack, "pigz -d", 300)?;
        let same = std::fs::read(&again)? == original;
        ensure!(same, "round {round}: not the input");
    }
    Ok(format!(
        "{} MiB to {} MiB and back, {ROUNDS} times with {THREADS} threads",
        LENGTH >> 20,
        compressed >> 20
    ))
}

/// A quarter noise, a quarter zeros, the rest words of sixteen letters: the same in each run.
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

/// Compiles and links both in one command.
fn build(programs: &Programs, sources: &[PathBuf; 2], kind: Kind) -> Result<PathBuf> {
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
    output(compile.arg("-lm"), "pigz does not compile", 300)?;
    Ok(program)
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
