//! C programs on the C interface under the host's glibc: what they are, and how one is made and judged.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::arch::Arch;
use crate::context::Context;
use crate::outcome::Outcome;
use crate::process::{command, optional_tool, output, set_glibc_rseq};
use crate::staticlib;

/// What a C program is made of, and when it is to be content.
pub struct Program {
    /// The test's name.
    pub test: &'static str,
    /// Whether it is linked with the archive that a libc takes.
    pub trio: bool,
    /// Who compiles it.
    pub compiler: &'static str,
    /// How.
    pub flags: &'static [&'static str],
    /// Files of `tests-qemu/capi`.
    pub sources: &'static [&'static str],
    /// The program's own.
    pub arguments: &'static [&'static str],
    /// Whether glibc registers for itself.
    pub libc_on: bool,
}

const PLAIN: Program = Program {
    test: "",
    trio: false,
    compiler: "gcc",
    flags: &["-std=gnu99"],
    sources: &[],
    arguments: &[],
    libc_on: false,
};

const CXX: Program = Program {
    compiler: "g++",
    sources: &["header.c"],
    ..PLAIN
};

/// A program's own warnings, which the header is not to trip.
const CASTS: &[&str] = &[
    "-xc++",
    "-std=c++98",
    "-Wold-style-cast",
    "-Wcast-align",
    "-Wcast-qual",
];

/// The programs. Another one is another entry.
pub static PROGRAMS: [Program; 18] = [
    Program {
        test: "header/c89",
        flags: &["-std=c89", "-pedantic", "-Wconversion", "-Wshadow"],
        sources: &["header.c"],
        ..PLAIN
    },
    Program {
        test: "header/c99",
        flags: &["-std=c99", "-pedantic", "-Wconversion", "-Wshadow"],
        sources: &["header.c"],
        ..PLAIN
    },
    Program {
        test: "header/c17",
        flags: &["-std=c17", "-pedantic", "-Wconversion", "-Wshadow"],
        sources: &["header.c"],
        ..PLAIN
    },
    Program {
        test: "header/c++98",
        flags: &[
            "-xc++",
            "-std=c++98",
            "-pedantic",
            "-Wconversion",
            "-Wshadow",
        ],
        ..CXX
    },
    Program {
        test: "header/c++17",
        flags: &[
            "-xc++",
            "-std=c++17",
            "-pedantic",
            "-Wconversion",
            "-Wshadow",
        ],
        ..CXX
    },
    Program {
        test: "header/c++-casts",
        flags: CASTS,
        ..CXX
    },
    Program {
        test: "header/clang++-casts",
        compiler: "clang++",
        flags: CASTS,
        ..CXX
    },
    // The libc declares `__rseq_*` too.
    Program {
        test: "header/libc-first",
        flags: &["-xc++", "-std=c++17"],
        sources: &["libc-first.c"],
        ..CXX
    },
    Program {
        test: "header/libc-first-trio",
        trio: true,
        flags: &["-xc++", "-std=c++17", "-DRSEQ_RT_FIRST"],
        sources: &["libc-first.c"],
        ..CXX
    },
    Program {
        test: "callback-throws",
        flags: &["-std=c++17"],
        sources: &["throw.cc"],
        ..CXX
    },
    Program {
        test: "header/static-pie",
        flags: &["-std=c99", "-static-pie"],
        sources: &["header.c"],
        ..PLAIN
    },
    Program {
        test: "hooks/runtime-owns",
        sources: &["hooks.c", "threads.c", "loans.c", "raw.c"],
        ..PLAIN
    },
    Program {
        test: "hooks/libc-owns",
        sources: &["hooks.c", "threads.c", "loans.c", "raw.c"],
        arguments: &["libc"],
        libc_on: true,
        ..PLAIN
    },
    Program {
        test: "filters",
        sources: &["filters.c", "filter.c", "raw.c"],
        ..PLAIN
    },
    Program {
        test: "kept",
        sources: &["kept.c", "filter.c", "raw.c"],
        ..PLAIN
    },
    Program {
        test: "sealed",
        trio: true,
        flags: &["-std=gnu99", "-Wl,-z,relro,-z,now"],
        sources: &["sealed.c", "raw.c"],
        ..PLAIN
    },
    // A libc fills the three before it seals them; this program starts when its own linker has done so.
    Program {
        test: "trio",
        trio: true,
        flags: &["-std=gnu99", "-Wl,-z,norelro"],
        sources: &["trio.c"],
        ..PLAIN
    },
    // Whole, as a libc takes it in. `other` is a Rust archive of its own.
    Program {
        test: "two-archives",
        flags: &["-std=c99", "-Wl,--whole-archive"],
        sources: &["two.c", "other"],
        ..PLAIN
    },
];

/// Compiles, links and runs it.
pub fn run(cx: &Context, arch: Arch, program: &Program) -> Result<Outcome> {
    let out = &staticlib::built(cx, arch, program.trio)?;
    let folder = cx.root.join("tests-qemu/capi");
    let file = out.join(program.test.replace(['/', '+'], "-"));
    let mut compile = optional_tool(program.compiler)?;
    compile
        .args(["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"])
        .args(program.flags)
        .arg("-I")
        .arg(out.join("include"));
    for source in program.sources {
        compile.arg(match *source {
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
    set_glibc_rseq(started.args(program.arguments), program.libc_on);
    let said = output(&mut started, "the program", 120)?;
    let passed = said.lines().filter(|line| line.ends_with(": passed"));
    Ok(match passed.count() {
        0 => Outcome::passed(),
        count => Outcome::Passed(format!("{count} tests")),
    })
}

/// The other Rust archive.
fn other(folder: &Path, out: &Path) -> Result<PathBuf> {
    let file = out.join("libother.a");
    let mut rustc = command("rustc");
    rustc.args(["--edition=2024", "--crate-type=staticlib", "-Cpanic=abort"]);
    rustc.args(["-O", "-o"]).arg(&file);
    output(rustc.arg(folder.join("other.rs")), "the other archive", 120)?;
    Ok(file)
}
