//! C programs on the C interface under the host's glibc: what they are, and how one is made and judged.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::arch::Arch;
use crate::context::Context;
use crate::process::{command, optional_tool, output, set_glibc_rseq};
use crate::staticlib;

/// A C program: sources, options, libc. Lists are words of one text.
pub struct Program {
    pub test: &'static str,
    compiler: &'static str,
    flags: &'static str,
    /// Files of `tests-qemu/capi`.
    sources: &'static str,
    /// Whether it is linked with the archive that a libc takes.
    trio: bool,
    /// Whether glibc registers rseq, which the program then expects.
    libc_on: bool,
}

const fn c(test: &'static str, flags: &'static str, sources: &'static str) -> Program {
    Program {
        test,
        compiler: "gcc",
        flags,
        sources,
        trio: false,
        libc_on: false,
    }
}

const fn cxx(test: &'static str, flags: &'static str, sources: &'static str) -> Program {
    Program {
        compiler: "g++",
        ..c(test, flags, sources)
    }
}

const fn trio(program: Program) -> Program {
    Program {
        trio: true,
        ..program
    }
}

/// A program's own warnings, which the header is not to trip.
const CASTS: &str = "-xc++ -std=c++98 -Wold-style-cast -Wcast-align -Wcast-qual";

#[rustfmt::skip] // a table
pub static PROGRAMS: &[Program] = &[
    c("header/c89", "-std=c89 -pedantic -Wconversion -Wshadow", "header.c"),
    c("header/c99", "-std=c99 -pedantic -Wconversion -Wshadow", "header.c"),
    c("header/c17", "-std=c17 -pedantic -Wconversion -Wshadow", "header.c"),
    cxx("header/c++98", "-xc++ -std=c++98 -pedantic -Wconversion -Wshadow", "header.c"),
    cxx("header/c++17", "-xc++ -std=c++17 -pedantic -Wconversion -Wshadow", "header.c"),
    cxx("header/c++-casts", CASTS, "header.c"),
    Program { compiler: "clang++", ..c("header/clang++-casts", CASTS, "header.c") },
    // The libc declares `__rseq_*` too.
    cxx("header/libc-first", "-xc++ -std=c++17", "libc-first.c"),
    trio(cxx("header/libc-first-trio", "-xc++ -std=c++17 -DRSEQ_RT_FIRST", "libc-first.c")),
    c("header/percpu-c99", "-std=c99 -pedantic -Wconversion -Wshadow -O0", "percpu-header.c"),
    c("header/percpu-c17", "-std=c17 -pedantic -Wconversion -O3 -fPIC -DRSEQ_RT_DEBUG", "percpu-header.c"),
    cxx("header/percpu-c++98", "-xc++ -std=c++98 -Wold-style-cast -Wcast-align -Wcast-qual", "percpu-header.c"),
    Program { compiler: "clang", ..c("header/percpu-clang", "-std=c99 -pedantic -O0", "percpu-header.c") },
    Program { compiler: "clang++", ..c("header/percpu-clang++", "-xc++ -std=c++20 -Wold-style-cast -Wcast-qual", "percpu-header.c") },
    c("percpu/runtime-owns", "-std=gnu99 -O2", "percpu.c"),
    c("percpu/unoptimised", "-std=gnu99 -O0", "percpu.c"),
    Program { libc_on: true, ..c("percpu/libc-owns", "-std=gnu99 -O3", "percpu.c") },
    Program { compiler: "clang", ..c("percpu/clang", "-std=gnu99 -O2", "percpu.c") },
    c("header/structures-c89", "-std=c89 -pedantic -Wconversion", "structures-header.c"),
    cxx("header/structures-c++98", "-xc++ -std=c++98 -Wold-style-cast -Wcast-align", "structures-header.c"),
    c("structures/runtime-owns", "-std=gnu99 -O2", "structures.c"),
    Program { libc_on: true, ..c("structures/libc-owns", "-std=gnu99 -O2", "structures.c") },
    cxx("callback-throws", "-std=c++17", "throw.cc"),
    c("header/static-pie", "-std=c99 -static-pie", "header.c"),
    c("hooks/runtime-owns", "-std=gnu99", "hooks.c threads.c loans.c raw.c"),
    Program { libc_on: true, ..c("hooks/libc-owns", "-std=gnu99", "hooks.c threads.c loans.c raw.c") },
    c("filters", "-std=gnu99", "filters.c filter.c raw.c"),
    c("kept", "-std=gnu99", "kept.c filter.c raw.c"),
    trio(c("sealed", "-std=gnu99 -Wl,-z,relro,-z,now", "sealed.c raw.c")),
    // A libc fills the three before it seals them; this program starts when its own linker has done so.
    trio(c("trio", "-std=gnu99 -Wl,-z,norelro", "trio.c")),
    // Whole, as a libc takes it in. `other` is a Rust archive of its own.
    c("two-archives", "-std=c99 -Wl,--whole-archive", "two.c other"),
];

/// Compiles, links and runs it.
pub fn run(cx: &Context, arch: Arch, program: &Program) -> Result<String> {
    let out = &staticlib::built(cx, arch, program.trio)?;
    let folder = cx.root.join("tests-qemu/capi");
    let file = out.join(program.test.replace(['/', '+'], "-"));
    let mut compile = optional_tool(program.compiler)?;
    compile
        .args(["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"])
        .args(program.flags.split(' '))
        .arg("-I")
        .arg(out.join("include"));
    for source in program.sources.split(' ') {
        compile.arg(match source {
            "other" => other(&folder, out)?,
            source => folder.join(source),
        });
    }
    compile.args(["-xnone", "-L"]).arg(out.join("lib"));
    compile.args(match program.trio {
        true => &["-DRSEQ_RT_TRIO", "-lrseq_rt_trio"][..],
        false => &["-lrseq_rt"],
    });
    compile.args(["-Wl,--no-whole-archive", "-o"]);
    output(compile.arg(&file), "does not compile", 120)?;
    let mut started = command(&file);
    started.args(program.libc_on.then_some("libc"));
    set_glibc_rseq(&mut started, program.libc_on);
    let said = output(&mut started, "the program", 120)?;
    let passed = said.lines().filter(|line| line.ends_with(": passed"));
    Ok(match passed.count() {
        0 => String::new(),
        count => format!("{count} tests"),
    })
}

fn other(folder: &Path, out: &Path) -> Result<PathBuf> {
    let file = out.join("libother.a");
    let mut rustc = command("rustc");
    rustc.args(["--edition=2024", "--crate-type=staticlib", "-Cpanic=abort"]);
    rustc.args(["-O", "-o"]).arg(&file);
    output(rustc.arg(folder.join("other.rs")), "the other archive", 120)?;
    Ok(file)
}
