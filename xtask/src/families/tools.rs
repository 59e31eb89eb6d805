//! A program with the library under debuggers, tracers, profilers, sanitizers and checkpointing.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::arch::Arch;
use crate::case::{Case, Family};
use crate::cell::At;
use crate::compiler::needs;
use crate::context::Context;
use crate::install::Need;
use crate::outcome::Missing;
use crate::process::{End, Finished, command, optional_tool, run, set_glibc_rseq};
use crate::staticlib;

pub const FAMILY: Family = Family {
    name: "tools",
    cases,
    needs: |cx, at| match at {
        At::Libcs(arch) => {
            let mut all = needs(cx, arch);
            // The small ones are installed; the others are used if present.
            all.extend(["gdb", "strace"].map(|tool| Need::new(tool, &[tool], "what watches")));
            all
        }
        _ => vec![],
    },
};

/// A tool and the program under it.
struct Tool {
    test: &'static str,
    /// The tool and its arguments, separated by blanks: FOLDER is the source folder, SCRATCH an empty one.
    watcher: &'static str,
    /// Further compiler flags.
    flags: &'static str,
    /// The argument of the program.
    argument: &'static str,
    /// Output of a tool that this machine does not let work.
    excuses: &'static [&'static str],
    /// Required output of the tool.
    says: &'static str,
}

const fn tool(test: &'static str, watcher: &'static str, argument: &'static str) -> Tool {
    Tool {
        test,
        watcher,
        flags: "",
        argument,
        excuses: &[],
        says: "",
    }
}

const fn sanitizer(test: &'static str, flags: &'static str) -> Tool {
    Tool {
        flags,
        // A missing library, and a memory layout that the tool cannot handle.
        excuses: &[
            "cannot find",
            "FATAL: ThreadSanitizer",
            "Shadow memory range",
        ],
        ..tool(test, "", "")
    }
}

#[rustfmt::skip] // a table
static TOOLS: &[Tool] = &[
    Tool {
        excuses: &["ptrace: Operation not permitted", "Python scripting is not supported"],
        says: "stopped in 11 hooks",
        ..tool("gdb", "gdb -nx -batch -x FOLDER/watch.py --args", "raw")
    },
    Tool {
        excuses: &["PTRACE_TRACEME", "PTRACE_SEIZE", "PTRACE_SETOPTIONS"],
        says: "rseq(0x",
        ..tool("strace", "strace -f -qq -e trace=rseq -e signal=none", "raw")
    },
    tool("sigprof", "", "profile"),
    Tool {
        excuses: &["Fatal error at startup"],
        ..tool("valgrind", "valgrind -q --error-exitcode=9", "")
    },
    Tool {
        excuses: &["[FATAL"],
        ..tool("rr", "rr record -o SCRATCH/trace", "")
    },
    sanitizer("sanitizer/address", "-fsanitize=address"),
    sanitizer("sanitizer/undefined", "-fsanitize=undefined -fno-sanitize-recover=undefined"),
    sanitizer("sanitizer/thread", "-fsanitize=thread"),
];

fn cases(_: &Context, at: At) -> Result<Vec<Case>> {
    let At::Libcs(arch) = at else {
        return Ok(vec![]);
    };
    let case = |tool: &'static Tool| Case::new(tool.test, move |cx| watched(cx, arch, tool));
    let mut cases: Vec<Case> = TOOLS.iter().map(case).collect();
    cases.push(Case::new("criu", move |cx| checkpoint(cx, arch)));
    Ok(cases)
}

fn sources(cx: &Context) -> PathBuf {
    cx.root.join("tests-qemu/tools")
}

/// The program for the tool, or the compiler's errors.
fn compiled(cx: &Context, arch: Arch, test: &str, flags: &str) -> Result<(Finished, PathBuf)> {
    let out = staticlib::built(cx, arch, false)?;
    let file = out.join(format!("watched-{}", test.replace('/', "-")));
    let mut compile = optional_tool("gcc")?;
    compile
        .args(["-std=gnu99", "-O1", "-g", "-Wall", "-Wextra", "-Werror"])
        .arg("-pthread")
        .args(flags.split_whitespace())
        .arg(sources(cx).join("watched.c"))
        .arg(cx.root.join("tests-qemu/capi/raw.c"))
        .args(staticlib::options(&out))
        .arg("-o")
        .arg(&file);
    Ok((run(&mut compile, 120)?, file))
}

/// Skips the case if the failure is one of `excuses`.
fn excused(finished: &Finished, excuses: &[&str]) -> Result<()> {
    let excuse = |line: &&str| excuses.iter().any(|part| line.contains(part));
    match finished.output.lines().find(excuse) {
        Some(line) if !finished.ok() => Err(Missing::optional(line.trim())),
        _ => Ok(()),
    }
}

fn watched(cx: &Context, arch: Arch, tool: &Tool) -> Result<String> {
    let scratch = tempfile::tempdir()?;
    let mut words = tool.watcher.split_whitespace();
    let watcher = words.next().map(optional_tool).transpose()?;
    let (compiled, program) = compiled(cx, arch, tool.test, tool.flags)?;
    excused(&compiled, tool.excuses)?;
    compiled.check("does not compile")?;
    let mut start = match watcher {
        None => command(&program),
        Some(mut watcher) => {
            let (sources, scratch) = (sources(cx), scratch.path().display().to_string());
            let sources = sources.display().to_string();
            watcher
                .args(words.map(|word| {
                    word.replace("FOLDER", &sources)
                        .replace("SCRATCH", &scratch)
                }))
                .arg(&program);
            watcher
        }
    };
    start.args(tool.argument.split_whitespace());
    // The program frees nothing at its end.
    start.env("ASAN_OPTIONS", "detect_leaks=0");
    let finished = run(set_glibc_rseq(&mut start, false), 300)?;
    excused(&finished, tool.excuses)?;
    let said = finished.check(tool.test)?;
    ensure!(
        said.contains(tool.says),
        "it does not say {:?}: {said}",
        tool.says
    );
    ended_right(&said)
}

/// The program's verdict, and how its main thread was registered.
fn ended_right(said: &str) -> Result<String> {
    ensure!(said.lines().any(|line| line == "right"), "{said}");
    let thread = said.lines().find_map(|line| line.strip_prefix("thread: "));
    Ok(thread.unwrap_or_default().to_owned())
}

/// Checkpointed in the middle, restored, and run to its end.
fn checkpoint(cx: &Context, arch: Arch) -> Result<String> {
    optional_tool("criu")?;
    let scratch = tempfile::tempdir()?;
    let (compiled, program) = compiled(cx, arch, "criu", "")?;
    compiled.check("does not compile")?;
    let mut script = command("/bin/sh");
    script
        .arg(sources(cx).join("criu.sh"))
        .arg(program)
        .arg(scratch.path());
    let finished = run(set_glibc_rseq(&mut script, false), 300)?;
    if finished.end == End::Exit(77) {
        return Err(Missing::optional(finished.tail(1)));
    }
    ended_right(&finished.check("criu")?)
}
