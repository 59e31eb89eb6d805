//! `cargo xtask musl --patch`: all insertions as one mail, for `patch -p1` and `git am`.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::insertion::{Insertion, Side};
use super::insertions::{insertions, version};
use super::tree::{self, Files};
use super::variant::Variant;
use crate::context::Context;
use crate::process::{End, run, tool};

/// The mail up to its explanations. `git am` requires an author, which is whoever applies it.
const HEAD: &str = "\
From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: rseq-rt <rseq-rt@localhost>
Subject: [PATCH] register every thread for restartable sequences

Each thread has an area for rseq(2) in its control block. It is
registered before the thread's first line, and the kernel lets go of it
before its memory is unmapped; sched_getcpu reads it; __rseq_offset,
__rseq_size and __rseq_flags are exported, as glibc does, and declared in
<sys/rseq.h>. MUSL_RSEQ=0 in the environment switches it off. In a build
with -DMUSL_RSEQ_DEFAULT=0 in CFLAGS, MUSL_RSEQ=1 switches it on.

For x86_64, aarch64 and riscv64. The library that does the work is an
assembly file, which is not part of this patch and goes to
arch/$(ARCH)/rseq_rt_trio-$(ARCH).s: `cargo xtask staticlib --emit asm
--trio --arch ARCH --out DIR` of rseq-rt writes it to
DIR/share/rseq_rt. The build takes the C compiler and objcopy.

Every insertion, and why it is there and not one line later:
";

/// The width of the message.
const WIDTH: usize = 72;

/// Writes the patch of a variant against that source.
pub fn write(cx: &Context, source: &Path, variant: Variant, file: &Path) -> Result<()> {
    let files = tree::contents(cx, source, variant)?;
    let all = insertions(source, version(source)?, variant);
    let patch = format!("{HEAD}{}---\n\n{}", message(&all), diff(source, &files)?);
    std::fs::write(file, patch).with_context(|| file.display().to_string())
}

/// One paragraph per insertion, in the order of the files.
fn message(all: &[Insertion]) -> String {
    let mut all: Vec<&Insertion> = all.iter().collect();
    all.sort_by_key(|one| one.file);
    let mut message = String::new();
    for one in all {
        let side = match one.side {
            Side::Before => "before",
            Side::After => "after",
        };
        let anchor = one
            .anchor
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty());
        let _ = writeln!(
            message,
            "\n* {}, {side} `{}`:",
            one.file,
            anchor.unwrap_or_default()
        );
        let mut line = String::from(" ");
        for word in one.why.split_whitespace() {
            if line.len() + 1 + word.len() > WIDTH {
                message += &line;
                message.push('\n');
                line = String::from(" ");
            }
            line.push(' ');
            line += word;
        }
        message += &line;
        message += ".\n";
    }
    message
}

/// The unified diff between the source and `files`.
fn diff(source: &Path, files: &Files) -> Result<String> {
    let work = tempfile::tempdir()?;
    let new = work.path().join("new");
    let mut text = String::new();
    for (file, contents) in files {
        std::fs::write(&new, contents)?;
        let old = source.join(file);
        let _ = writeln!(text, "diff --git a/{file} b/{file}");
        let mut diff = tool("diff")?;
        if old.exists() {
            diff.args(["-u", "--label"]).arg(format!("a/{file}"));
            diff.arg("--label").arg(format!("b/{file}")).arg(old);
        } else {
            text += "new file mode 100644\n";
            diff.args(["-u", "--label", "/dev/null", "--label"]);
            diff.arg(format!("b/{file}")).arg("/dev/null");
        }
        let ended = run(diff.arg(&new), 60)?;
        // 1 means that they differ.
        if ended.end != End::Exit(1) {
            ended.check("diff")?;
            continue;
        }
        text += &ended.output;
    }
    text += "-- \nrseq-rt\n";
    Ok(text)
}
