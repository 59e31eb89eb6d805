//! Musl from the patched source and the assembly file, on a PATH without Rust: it behaves as the tool's own build.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::programs::{Kind, Programs, Which};
use crate::arch::Arch;
use crate::case::Case;
use crate::console;
use crate::context::Context;
use crate::machine::boot;
use crate::machine::place::Place;
use crate::musl::{self, Release, Source, Variant};
use crate::outcome::Outcome;
use crate::process::{copy_folder, output, tool};
use crate::staticlib;

/// All tools on PATH, besides the compiler.
const TOOLS: [&str; 24] = [
    "sh", "make", "as", "ld", "ar", "ranlib", "objcopy", "patch", "sed", "awk", "grep", "cat",
    "cp", "mv", "rm", "ln", "mkdir", "chmod", "tr", "cmp", "cut", "uname", "dirname", "printf",
];

pub fn cases(arch: Arch) -> Vec<Case> {
    let case = |compiler: &'static str| {
        Case::new(format!("bootstrap/{compiler}"), move |cx| {
            bootstrap(cx, arch, compiler)
        })
        .in_job(format!("musl without Rust, by {compiler}"))
    };
    ["gcc", "clang"].map(case).into()
}

fn bootstrap(cx: &Context, arch: Arch, compiler: &str) -> Result<String> {
    tool(compiler)?;
    let folder = cx
        .root
        .join(format!("target/musl/{arch}/bootstrap-{compiler}"));
    let root = build(cx, arch, compiler, &folder)?;
    let theirs = Programs::under(arch, root, folder.join("programs"))?;
    theirs.link_both(cx, false)?;
    let ours = Programs::build(cx, &Which::hooked(Release::default()), arch, false)?;
    let outcomes = verdicts(cx, arch, &theirs)?;
    let expected = cx.once(format!("musl-verdicts/{arch}"), || {
        verdicts(cx, arch, &ours)
    })?;
    ensure!(
        outcomes == expected,
        "not as under the tool's own: {outcomes:?}, {expected:?}"
    );
    let (exports, expected) = (exports(&theirs)?, exports(&ours)?);
    ensure!(
        exports == expected,
        "exported by only one of the two: {:?}",
        difference(&exports, &expected)
    );
    let passed = outcomes
        .iter()
        .filter(|(_, word)| *word == "passed")
        .count();
    Ok(format!(
        "{passed} of {} tests pass, as under the tool's own; the same {} names are exported",
        outcomes.len(),
        exports.len()
    ))
}

/// Patches, configures, builds and installs, unless already done with this patch and this assembly file. Returns the
/// prefix.
fn build(cx: &Context, arch: Arch, compiler: &str, folder: &Path) -> Result<PathBuf> {
    let source = Source::from(Release::default());
    let assembly =
        staticlib::Plan { arch, trio: true }.assembly(&staticlib::assembly(cx, arch, true)?);
    let patch = cx
        .root
        .join(format!("target/musl/{arch}/rseq-{compiler}.patch"));
    musl::patch(cx, &source, Variant::Hooked, &patch)?;
    let made_of = std::fs::read_to_string(&patch)? + &std::fs::read_to_string(&assembly)?;
    let (root, tree, bin) = (folder.join("root"), folder.join("tree"), folder.join("bin"));
    let stamp = folder.join("made-of");
    if std::fs::read_to_string(&stamp).is_ok_and(|old| old == made_of) {
        return Ok(root);
    }
    let _step = cx.step(format!("building musl without Rust, by {compiler}"));
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(&bin)?;
    for name in TOOLS.iter().chain([&compiler]) {
        std::os::unix::fs::symlink(which::which(name)?, bin.join(name))?;
    }
    let run = |program: &str, arguments: &[&str]| {
        let mut run = Command::new(bin.join(program));
        run.args(arguments)
            .current_dir(&tree)
            .env_clear()
            .env("PATH", &bin);
        output(&mut run, program, 1200)
    };
    copy_folder(&source.fetched(cx)?, &tree)?;
    let rust = run(
        "sh",
        &["-c", "command -v rustc || command -v cargo || echo neither"],
    )?;
    ensure!(rust == "neither\n", "Rust is at hand: {rust}");
    run("patch", &["-p1", "--input", &patch.to_string_lossy()])?;
    std::fs::copy(
        &assembly,
        tree.join(format!("arch/{arch}/rseq_rt_trio-{arch}.s")),
    )?;
    run(
        "sh",
        &[
            "./configure",
            &format!("--prefix={}", root.display()),
            &format!("--syslibdir={}", root.join("lib").display()),
            // gcc compiles the tests in both builds.
            "--enable-wrapper=gcc",
            &format!("CC={compiler}"),
        ],
    )?;
    run("make", &["-s", "-j2"])?;
    run("make", &["-s", "install"])?;
    std::fs::write(stamp, made_of)?;
    Ok(root)
}

/// Each test of the static and of the shared program, and its verdict.
fn verdicts(cx: &Context, arch: Arch, programs: &Programs) -> Result<Vec<(String, &'static str)>> {
    let mut verdicts = Vec::new();
    for kind in Kind::ALL {
        let arguments = ["--scale", "emulated"];
        let program = programs.path(kind);
        let run = boot::run(cx, Place::of_programs(arch), &program, &[], &arguments)?.finished;
        let judged = console::judge(&run.output, &[], run.end, true);
        verdicts.extend(judged.tests.into_iter().map(|(test, outcome)| {
            let verdict = match outcome {
                Outcome::Passed(_) => "passed",
                Outcome::Skipped(_) => "skipped",
                Outcome::Failed(_) | Outcome::Missing(_) => "failed",
            };
            (test, verdict)
        }));
    }
    Ok(verdicts)
}

/// The symbols that the libc exports.
fn exports(programs: &Programs) -> Result<Vec<String>> {
    let mut nm = tool("nm")?;
    nm.args(["--dynamic", "--defined-only", "--format=just-symbols"]);
    let listed = output(nm.arg(programs.libc(Kind::Shared)), "nm", 60)?;
    let mut names: Vec<String> = listed.lines().map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

fn difference<'a>(one: &'a [String], other: &'a [String]) -> Vec<&'a String> {
    let alone = |name: &&String| one.contains(name) != other.contains(name);
    one.iter().chain(other).filter(alone).collect()
}
