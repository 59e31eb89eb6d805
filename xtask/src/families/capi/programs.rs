//! C programs on the C interface under the host's glibc: the table, and how each is built and judged.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::arch::Arch;
use crate::context::Context;
use crate::outcome::Missing;
use crate::process::{command, optional_tool, output, set_glibc_rseq};
use crate::staticlib::{self, Plan};

/// A C program: sources, options, libc. Lists are words separated by blanks.
pub struct Program {
    pub test: &'static str,
    compiler: &'static str,
    flags: &'static str,
    /// Files of `tests-qemu/capi`.
    sources: &'static str,
    /// A file of that folder to build as a shared object, passed to the program as `PLUGIN`; or none.
    plugin: &'static str,
    /// Whether it is linked with the libc form of the archive.
    trio: bool,
    /// Whether glibc registers rseq, which the program then expects.
    libc_on: bool,
    /// Whether the archive is built from the assembly file, without Rust.
    from_asm: bool,
}

const fn c(test: &'static str, flags: &'static str, sources: &'static str) -> Program {
    Program {
        test,
        compiler: "gcc",
        flags,
        sources,
        plugin: "",
        trio: false,
        libc_on: false,
        from_asm: false,
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

/// Warnings of a user's program, which the header must not trigger.
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
    cxx("percpu/inline-in-two-units", "-std=c++98 -O2", "inline.cc inline-other.cc"),
    Program { compiler: "clang++", ..cxx("percpu/inline-in-two-units-clang", "-std=c++17 -O2", "inline.cc inline-other.cc") },
    c("percpu/runtime-owns", "-std=gnu99 -O2", "percpu.c"),
    c("percpu/asserts", "-std=gnu99 -O1 -DRSEQ_RT_DEBUG", "percpu-asserts.c"),
    c("percpu/unoptimised", "-std=gnu99 -O0 -DRSEQ_RT_DEBUG", "percpu.c"),
    Program { libc_on: true, ..c("percpu/libc-owns", "-std=gnu99 -O3", "percpu.c") },
    Program { compiler: "clang", ..c("percpu/clang", "-std=gnu99 -O2", "percpu.c") },
    c("header/structures-c89", "-std=c89 -pedantic -Wconversion", "structures-header.c"),
    cxx("header/structures-c++98", "-xc++ -std=c++98 -Wold-style-cast -Wcast-align", "structures-header.c"),
    c("structures/runtime-owns", "-std=gnu99 -O2", "structures.c filter.c"),
    Program { libc_on: true, ..c("structures/libc-owns", "-std=gnu99 -O2", "structures.c filter.c") },
    c("header/buffers-c99", "-std=c99 -pedantic -Wconversion -Wshadow -O0", "buffers-header.c"),
    c("header/buffers-c17", "-std=c17 -pedantic -Wconversion -O3 -fPIC -DRSEQ_RT_DEBUG", "buffers-header.c"),
    cxx("header/buffers-c++98", "-xc++ -std=c++98 -Wold-style-cast -Wcast-align -Wcast-qual", "buffers-header.c"),
    Program { compiler: "clang++", ..c("header/buffers-clang++", "-xc++ -std=c++20 -Wold-style-cast -Wcast-qual", "buffers-header.c") },
    c("buffers/runtime-owns", "-std=gnu99 -O2", "buffers.c filter.c"),
    Program { libc_on: true, compiler: "clang", ..c("buffers/libc-owns", "-std=gnu99 -O2", "buffers.c filter.c") },
    c("slice/runtime-owns", "-std=gnu99 -O2", "slice.c"),
    Program { libc_on: true, compiler: "clang", ..c("slice/libc-owns", "-std=gnu99 -O2", "slice.c") },
    Program { plugin: "unload-plugin.c", ..c("unload/runtime-owns", "-std=gnu99 -O2", "unload.c") },
    Program { plugin: "unload-plugin.c", libc_on: true, ..c("unload/libc-owns", "-std=gnu99 -O2", "unload.c") },
    c("example/runtime-owns", "-std=gnu99", "../../examples/c/requests.c"),
    Program { libc_on: true, ..c("example/libc-owns", "-std=gnu99", "../../examples/c/requests.c") },
    c("example/sections", "-std=gnu11 -O2", "../../examples/c/sections.c"),
    c("example/sections-unoptimised", "-std=gnu11 -O0", "../../examples/c/sections.c"),
    Program { libc_on: true, compiler: "clang", ..c("example/sections-clang", "-std=gnu11 -O2", "../../examples/c/sections.c") },
    c("stopped/runtime-owns", "-std=gnu11 -O2", "stopped.c"),
    Program { libc_on: true, compiler: "clang", ..c("stopped/libc-owns", "-std=gnu11 -O2", "stopped.c") },
    cxx("callback-throws", "-std=c++17", "throw.cc"),
    c("header/static-pie", "-std=c99 -static-pie", "header.c"),
    c("hooks/runtime-owns", "-std=gnu99", "hooks.c threads.c loans.c raw.c"),
    Program { libc_on: true, ..c("hooks/libc-owns", "-std=gnu99", "hooks.c threads.c loans.c raw.c") },
    Program { from_asm: true, ..c("asm/hooks-runtime-owns", "-std=gnu99", "hooks.c threads.c loans.c raw.c") },
    c("fuzz/runtime-owns", "-std=gnu99", "fuzz.c fuzz-calls.c fuzz-structures.c"),
    Program { libc_on: true, ..c("fuzz/libc-owns", "-std=gnu99", "fuzz.c fuzz-calls.c fuzz-structures.c") },
    c("filters", "-std=gnu99", "filters.c filter.c raw.c"),
    c("kept", "-std=gnu99", "kept.c filter.c raw.c"),
    trio(c("sealed", "-std=gnu99 -Wl,-z,relro,-z,now", "sealed.c raw.c")),
    // A libc fills the three before it makes them read-only; this program starts after its linker has done so.
    trio(c("trio", "-std=gnu99 -Wl,-z,norelro", "trio.c")),
    // Whole, as a libc links it. `other` is a second Rust archive.
    c("two-archives", "-std=c99 -Wl,--whole-archive", "two.c other"),
];

/// Compiles, links and runs a program.
pub fn run(cx: &Context, arch: Arch, program: &Program) -> Result<String> {
    let out = &match program.from_asm {
        true => staticlib::assembly(cx, arch, program.trio)?,
        false => staticlib::built(cx, arch, program.trio)?,
    };
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
    if !program.plugin.is_empty() {
        let plugin = plugin(program, &folder, out)?;
        compile.arg(format!("-DPLUGIN=\"{}\"", plugin.display()));
    }
    compile.args(["-xnone", "-L"]).arg(out.join("lib"));
    compile.args(match program.trio {
        true => &["-DRSEQ_RT_TRIO", "-lrseq_rt_trio"][..],
        false => &["-lrseq_rt"],
    });
    compile.args(["-Wl,--no-whole-archive", "-o"]);
    let tools = tempfile::tempdir()?;
    if program.from_asm {
        assemble_without_rust(arch, out, tools.path())?;
        compile.env("PATH", tools.path());
    }
    output(compile.arg(&file), "does not compile", 120)?;
    let mut started = command(&file);
    started.args(program.libc_on.then_some("libc"));
    set_glibc_rseq(&mut started, program.libc_on);
    let said = output(&mut started, "the program", 120)?;
    let passed = said.lines().filter(|line| line.ends_with(": passed"));
    let skipped = said
        .lines()
        .filter_map(|line| line.split_once(": skipped: "));
    let skipped: String = skipped
        .map(|(name, why)| format!(", skipped {name}: {why}"))
        .collect();
    Ok(match passed.count() {
        0 => String::new(),
        count => format!("{count} tests{skipped}"),
    })
}

/// Makes the archive as the assembly file says, with only the C compiler and the binutils on PATH. `tools` becomes that
/// PATH.
fn assemble_without_rust(arch: Arch, out: &Path, tools: &Path) -> Result<()> {
    for (name, program) in [("cc", "gcc"), ("as", "as"), ("ld", "ld"), ("ar", "ar")] {
        let path =
            which::which(program).map_err(|_| Missing::optional(format!("no {program} here")))?;
        symlink(path, tools.join(name))?;
    }
    let plan = Plan { arch, trio: false };
    let file = plan.assembly(out);
    let text = std::fs::read_to_string(&file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(" *     "));
    let mut shell = command("/bin/sh");
    shell
        .arg("-c")
        .arg(line.context("it does not say how")?)
        .env("PATH", tools)
        .current_dir(file.parent().context("in no folder")?);
    output(&mut shell, "the assembly file", 120)?;
    std::fs::create_dir_all(out.join("lib"))?;
    let made = file.with_file_name(format!("lib{}.a", plan.library()));
    Ok(std::fs::rename(made, plan.archive(out))?)
}

fn plugin(program: &Program, folder: &Path, out: &Path) -> Result<PathBuf> {
    let file = out
        .join(program.test.replace('/', "-"))
        .with_extension("so");
    let mut link = optional_tool(program.compiler)?;
    link.args([
        "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I",
    ]);
    link.arg(out.join("include")).arg("-o").arg(&file);
    output(link.arg(folder.join(program.plugin)), "the plugin", 120)?;
    Ok(file)
}

fn other(folder: &Path, out: &Path) -> Result<PathBuf> {
    let file = out.join("libother.a");
    let mut rustc = command("rustc");
    rustc.args(["--edition=2024", "--crate-type=staticlib", "-Cpanic=abort"]);
    rustc.args(["-O", "-o"]).arg(&file);
    output(rustc.arg(folder.join("other.rs")), "the other archive", 120)?;
    Ok(file)
}
