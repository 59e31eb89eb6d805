//! Lua, a real program that allocates for every value, from the distribution's sources, on many threads under the hooked
//! musl: with the caches of malloc it computes what it computes without them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::programs::{Kind, Programs};
use crate::arch::Arch;
use crate::context::Context;
use crate::machine::{RELEASES, source_package};
use crate::musl::Variant;
use crate::outcome::Missing;
use crate::process::{command, output};

/// The programs of the package, which the driver replaces.
const MAINS: [&str; 2] = ["lua.c", "luac.c"];

const THREADS: usize = 8;
const TURNS: &str = "60";
const ROUNDS: usize = 4;

pub fn test(cx: &Context, arch: Arch, variant: Variant, kind: Kind) -> Result<String> {
    let source = source_package(cx, "lua5.4", "src/lua.h", &RELEASES, "lua-source")
        .map_err(|why| Missing::optional(format!("{why:#}")))?;
    let programs = Programs::open(cx, arch, variant)?;
    let folder = cx.root.join("tests-qemu/musl");
    let lua = build(&programs, &source.join("src"), &folder, kind)?;
    let run = |off: Option<&str>| {
        let mut run = command(&lua);
        run.args([&THREADS.to_string(), TURNS])
            .arg(folder.join("lua.lua"));
        run.envs(off.map(|off| ("MUSL_RSEQ", off)));
        output(&mut run, "Lua", 300)
    };
    // Without rseq there are no caches.
    let expected = run(Some("0"))?;
    let texts = |nth| {
        expected
            .lines()
            .any(|line| line.starts_with(&format!("{nth}: ")))
    };
    ensure!(
        (0..THREADS).all(texts),
        "a thread without a text, without caches"
    );
    for round in 0..ROUNDS {
        ensure!(
            run(None)? == expected,
            "round {round}: another text than without caches"
        );
    }
    Ok(format!(
        "{} bytes of text by {THREADS} threads, {ROUNDS} times the same as without caches",
        expected.len()
    ))
}

/// Compiles and links all in one command.
fn build(programs: &Programs, source: &Path, folder: &Path, kind: Kind) -> Result<PathBuf> {
    let program = programs.folder().join(format!("lua-{}", kind.name()));
    let mut compile = command(programs.gcc());
    compile.args(["-std=gnu99", "-O1", "-w", "-pthread"]);
    // Strings have the same hash in each run.
    compile.arg("-Dluai_makeseed(L)=1");
    // Made by the package's own rules.
    let headers = programs.folder().join("lua-headers");
    std::fs::create_dir_all(&headers)?;
    let multiarch = headers.join("lua5.4-deb-multiarch.h");
    std::fs::write(multiarch, "#define DEB_HOST_MULTIARCH \"none\"\n")?;
    compile.arg("-I").arg(&headers);
    if kind == Kind::Static {
        compile.arg("-static");
    }
    compile.arg("-I").arg(source).arg("-o").arg(&program);
    compile.arg(folder.join("lua.c"));
    for entry in std::fs::read_dir(source).context("no sources")? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("");
        if name.ends_with(".c") && !MAINS.contains(&name) {
            compile.arg(path);
        }
    }
    output(compile.arg("-lm"), "Lua does not compile", 300)?;
    Ok(program)
}
