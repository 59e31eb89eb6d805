//! Any musl: a tree of the user's as source, the patch, which yields the tree that the tool builds, and an unsuitable
//! tree, which stays untouched.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::programs::Which;
use super::run;
use crate::case::{Case, Judged};
use crate::context::Context;
use crate::machine::place::Place;
use crate::musl::{self, Release, Source, Variant};
use crate::outcome::Missing;
use crate::process::{command, copy_folder, output};

/// A few programs, for musls that differ from the default only in the origin of their source.
const FEW: [&str; 6] = [
    "static/constructors",
    "shared/constructors",
    "static/c11_threads",
    "shared/c11_threads",
    "static/executed_program_registers_anew",
    "shared/executed_program_registers_anew",
];

pub fn cases(place: Place) -> Vec<Case> {
    vec![
        Case::new("source/programs", move |cx| from_tree(cx, place)).in_job("musl from a tree"),
        Case::new("forky/programs", move |cx| newest(cx, place)).in_job("musl 1.2.6"),
        Case::new("patch/by-patch", by_patch).in_job("the patch for musl"),
        Case::new("patch/by-git-am", by_git_am).in_job("the patch for musl"),
        Case::new("patch/anchor-missing", anchor_missing).in_job("the patch for musl"),
    ]
}

/// A tree that its owner has built with another compiler.
fn from_tree(cx: &Context, place: Place) -> Result<String> {
    let original = Source::from(Release::default()).fetched(cx)?;
    let tree = cx.root.join("target/musl/tree");
    if tree.exists() {
        std::fs::remove_dir_all(&tree)?;
    }
    copy_folder(&original, &tree)?;
    std::fs::create_dir_all(tree.join("obj/src/env"))?;
    for file in [
        "config.mak",
        "obj/src/env/getenv.o",
        "obj/src/env/getenv.lo",
    ] {
        std::fs::write(tree.join(file), "no such compiler\n")?;
    }
    let before = state(&tree)?;
    let source = Source::new(Some(&tree), Release::default())?;
    let passed = few(cx, &source, place)?;
    ensure!(state(&tree)? == before, "the tree has been changed");
    Ok(passed)
}

/// Musl 1.2.6, which the mirror may not have.
fn newest(cx: &Context, place: Place) -> Result<String> {
    let source = Source::from(Release::Forky);
    source.fetched(cx).map_err(Missing::excused)?;
    few(cx, &source, place)
}

fn few(cx: &Context, source: &Source, place: Place) -> Result<String> {
    let which = Which::hooked(source.clone());
    let mut all = Vec::new();
    for tests in FEW.chunks(2) {
        let tests: Vec<String> = tests.iter().map(ToString::to_string).collect();
        all.extend(run(cx, &which, place, &tests)?);
    }
    Judged::sum(all)
}

fn by_patch(cx: &Context) -> Result<String> {
    every_release(cx, |patch, tree| {
        let mut apply = command("patch");
        apply
            .args(["-p1", "--fuzz=0", "--input"])
            .arg(patch)
            .current_dir(tree);
        let said = output(&mut apply, "patch", 60)?;
        ensure!(!said.contains("offset"), "{said}");
        Ok(())
    })
}

fn by_git_am(cx: &Context) -> Result<String> {
    every_release(cx, |patch, tree| {
        let git = |arguments: &[&str]| {
            let mut git = command("git");
            git.args(["-c", "user.name=x", "-c", "user.email=x@localhost"])
                .args(arguments)
                .current_dir(tree)
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env("GIT_CONFIG_NOSYSTEM", "1");
            output(&mut git, "git", 120)
        };
        git(&["init", "--quiet"])?;
        git(&["add", "--all", "--force"])?;
        git(&["commit", "--quiet", "--message=musl"])?;
        git(&["am", "--quiet", &patch.to_string_lossy()])?;
        let message = git(&["log", "-1", "--format=%B"])?;
        let changed = git(&["diff", "--name-only", "--diff-filter=M", "HEAD~"])?;
        for file in changed.lines() {
            ensure!(
                message.contains(&format!("\n* {file}, ")),
                "{file}: {message}"
            );
        }
        std::fs::remove_dir_all(tree.join(".git"))?;
        Ok(())
    })
}

/// For each available release: the patch, applied by `apply`, makes the tree that is built. Returns the versions.
fn every_release(cx: &Context, apply: impl Fn(&Path, &Path) -> Result<()>) -> Result<String> {
    let mut versions = Vec::new();
    for release in [Release::Bookworm, Release::Trixie, Release::Forky] {
        let source = Source::from(release);
        let original = match source.fetched(cx) {
            Ok(original) => original,
            // One release is enough.
            Err(_) if release != Release::default() => continue,
            Err(why) => return Err(why),
        };
        let version = std::fs::read_to_string(original.join("VERSION"))?;
        let version = version.trim().to_owned();
        if versions.contains(&version) {
            continue;
        }
        let work = work(cx)?;
        let (patch, patched, built) = (
            work.path().join("rseq.patch"),
            work.path().join("patched"),
            work.path().join("built"),
        );
        musl::patch(cx, &source, Variant::Hooked, &patch)?;
        musl::inserted(cx, &source, Variant::Hooked, &built)?;
        copy_folder(&original, &patched)?;
        apply(&patch, &patched)?;
        let mut diff = command("diff");
        diff.args(["-r", "-q"]).arg(&patched).arg(&built);
        output(&mut diff, "not the tree that is built", 60)?;
        versions.push(version);
    }
    Ok(versions.join(", "))
}

/// Two damaged anchors and a missing file.
fn anchor_missing(cx: &Context) -> Result<String> {
    let work = work(cx)?;
    let (tree, patch, built) = (
        work.path().join("tree"),
        work.path().join("rseq.patch"),
        work.path().join("built"),
    );
    copy_folder(&Source::from(Release::default()).fetched(cx)?, &tree)?;
    let mut expected = vec!["src/linux/clone.c:1: ".to_owned()];
    std::fs::remove_file(tree.join("src/linux/clone.c"))?;
    for (file, anchor, other) in [
        (
            "src/thread/pthread_create.c",
            "/* Wake any joiner. */",
            "/* Wake the joiner. */",
        ),
        (
            "ldso/dynlink.c",
            "static_tls_cnt = tls_cnt;",
            "static_tls_count = tls_cnt;",
        ),
    ] {
        let path = tree.join(file);
        let text = std::fs::read_to_string(&path)?.replace(anchor, other);
        let line = text.lines().position(|line| line.contains(other));
        let line = 1 + line.with_context(|| format!("{file} has no {anchor}"))?;
        std::fs::write(&path, text)?;
        expected.push(format!("{file}:{line}: "));
    }
    let before = state(&tree)?;
    let source = Source::new(Some(&tree), Release::default())?;
    for outcome in [
        musl::patch(cx, &source, Variant::Hooked, &patch),
        musl::inserted(cx, &source, Variant::Hooked, &built),
    ] {
        let why = outcome.err().context("no error")?.to_string();
        for place in &expected {
            ensure!(
                why.lines().any(|line| line.starts_with(place)),
                "no {place:?} in: {why}"
            );
        }
    }
    ensure!(!patch.exists() && !built.exists(), "something was written");
    ensure!(state(&tree)? == before, "the tree has been changed");
    Ok(expected.join("").trim_end_matches(": ").replace(": ", ", "))
}

/// Names, lengths, modes, and modification times.
fn state(tree: &Path) -> Result<String> {
    let mut find = command("find");
    find.arg(tree).args(["-printf", "%p %s %m %T@ %C@\\n"]);
    output(&mut find, "find", 60)
}

fn work(cx: &Context) -> Result<tempfile::TempDir> {
    let folder = cx.root.join("target/musl");
    std::fs::create_dir_all(&folder)?;
    Ok(tempfile::tempdir_in(folder)?)
}
