//! The word count of the green threads against find(1) and wc(1), on the same trees.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::cell::keep_console;
use crate::context::Context;
use crate::guests::{green, green_tests};
use crate::install::Need;
use crate::machine::boot::{self, Run};
use crate::machine::place::Place;
use crate::outcome::Failure;
use crate::process::{command, output};

const MADE: &str = "words_of_a_made_tree";
const OF_SOURCES: &str = "words_of_the_sources";
const AS_PID_1: &str = "words_as_pid_1";

/// The names of the tests: a generated tree, and the whole project. On a booted machine one run counts both.
pub fn tests(place: Place) -> &'static [&'static str] {
    if place.boots() {
        &[AS_PID_1]
    } else {
        &[MADE, OF_SOURCES]
    }
}

const QUEUES: [&str; 3] = ["percpu", "mpmc", "mutex"];

pub fn needs() -> Vec<Need> {
    let why = "counting the words of a tree";
    vec![
        Need::new("find", &["findutils"], why),
        Need::new("wc", &["coreutils"], why),
    ]
}

/// Counts the words of the test's trees at `place`, with each queue.
pub fn count(cx: &Context, place: Place, test: &str) -> Result<String> {
    let made = tempfile::tempdir()?;
    let mut trees: Vec<(&str, PathBuf)> = Vec::new();
    if test != OF_SOURCES {
        let tree = made.path().join("made");
        make_tree(&tree)?;
        trees.push(("tree/made", tree));
    }
    if test != MADE {
        let copied = made.path().join("sources");
        copy_sources(&cx.root, &copied)?;
        trees.push(("tree/sources", copied));
    }
    let expected = trees.iter().map(|(_, tree)| by_tools(tree));
    let expected = expected.collect::<Result<Vec<Counts>>>()?;
    let sum = sum_of(&expected);
    let mut steals = 0;
    if place.boots() {
        // PID 1 has only the files packed beside it; one boot for all queues and trees. The example does not power the
        // machine off, so the program of its tests counts.
        let program = green_tests(cx, place.arch)?;
        let arguments = ["wc", "/tree", "--queue", "all"];
        let run = boot::run(cx, place, &program, &trees, &arguments)?;
        keep_console(cx, "green-words", place, &run.finished.output);
        steals += judge(&run, true, &QUEUES, sum)?;
    } else {
        let program = green(cx, place.arch)?;
        for ((_, tree), expected) in trees.iter().zip(expected) {
            let path = tree.to_str().context("a path that is text")?;
            for queue in QUEUES {
                let arguments = ["wc", path, "--queue", queue];
                let run = boot::run(cx, place, &program, &[], &arguments)?;
                steals += judge(&run, false, &[queue], expected)?;
            }
        }
    }
    let Counts { words, files } = sum;
    let detail = format!("{words} words in {files} files over each queue, {steals} steals");
    Ok(detail)
}

/// Copies the project without build output, so that no build writes to the copy while it is counted.
fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        if name == "target" || name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if kind.is_dir() {
            copy_sources(&entry.path(), &to.join(name))?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), to.join(name))?;
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    words: u64,
    files: u64,
}

fn sum_of(counts: &[Counts]) -> Counts {
    counts.iter().fold(Counts::default(), |sum, each| Counts {
        words: sum.words + each.words,
        files: sum.files + each.files,
    })
}

/// The number of steals, if the run counted `expected` with each queue and ended properly. A booted machine has no exit
/// code: it powered itself off if qemu ended without a kernel panic.
fn judge(run: &Run, boots: bool, queues: &[&str], expected: Counts) -> Result<u64> {
    let output = &run.finished.output;
    let reports = reports(output);
    for (queue, counted, _) in &reports {
        ensure!(
            *counted == expected,
            "{queue}: {counted:?} where find and wc say {expected:?}"
        );
    }
    let panicked = boots && output.contains("Kernel panic");
    if !run.finished.ok() || panicked || !reports.iter().map(|(queue, ..)| queue).eq(queues) {
        let why = format!("{queues:?}: {}", run.finished.end);
        return Err(Failure::error(why, output));
    }
    Ok(reports.iter().map(|(_, _, steals)| steals).sum())
}

/// Queue, counts and steals of each report without errors: two lines, between any output of firmware and kernel.
fn reports(output: &str) -> Vec<(&str, Counts, u64)> {
    let mut counted = None;
    let mut reports = Vec::new();
    for line in output.lines() {
        let number = |key| number_after(line, key);
        if let (Some(words), Some(files), Some(0)) =
            (number("words"), number("files"), number("errors"))
        {
            counted = Some(Counts { words, files });
        } else if let Some(queue) = word_after(line, "queue")
            && let Some(steals) = number("steals")
            && let Some(counted) = counted.take()
        {
            reports.push((queue, counted, steals));
        }
    }
    reports
}

/// Words and files, as find and wc count them.
fn by_tools(tree: &Path) -> Result<Counts> {
    // In this locale all printable text forms words, ASCII or not.
    let script = r#"find "$1" -type f -print0 | LC_ALL=C.UTF-8 wc -w --files0-from=-"#;
    let mut count = command("sh");
    count.args(["-c", script, "sh"]).arg(tree);
    let counted = output(&mut count, "find and wc", 120)?;
    let lines: Vec<&str> = counted.lines().collect();
    // One line per file, then their sum.
    let total = lines.last().context("wc said nothing")?.trim();
    let words = total
        .strip_suffix("total")
        .context("wc gives no total for less than two files")?;
    Ok(Counts {
        words: words.trim().parse()?,
        files: lines.len() as u64 - 1,
    })
}

fn word_after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    // Not split into words: firmware leaves its last line open.
    let (_, behind) = text.split_once(key)?;
    behind.split_whitespace().next()
}

fn number_after(text: &str, key: &str) -> Option<u64> {
    word_after(text, key)?.parse().ok()
}

/// The hard cases of a word count: each kind of space, words across the reader's chunks, no newline at the end, empty
/// files, deep folders, names with spaces, links that lead out of the tree.
fn make_tree(root: &Path) -> Result<()> {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let spaces = [" ", "\n", "\t", "\u{b}", "\u{c}", "\r\n", "  \n\t "];
    let mut folder = root.to_owned();
    for number in 0..150_u64 {
        match number % 10 {
            0 => folder = root.join(format!("folder {number}")),
            5 => folder = folder.join("deeper"),
            _ => {}
        }
        std::fs::create_dir_all(&folder)?;
        let mut text = String::new();
        // From empty to three chunks of the reader.
        let size = if number % 7 == 0 {
            0
        } else {
            next(48 * 1024) as usize
        };
        while text.len() < size {
            let length = 1 + next(if number % 11 == 0 { 3000 } else { 12 });
            text.extend((0..length).map(|n| char::from(b'!' + (n * 7 % 90) as u8)));
            text.push_str(spaces[next(spaces.len() as u64) as usize]);
        }
        if number % 3 == 0 {
            text.truncate(text.trim_end().len());
        }
        std::fs::File::create(folder.join(format!("file {number}.txt")))?
            .write_all(text.as_bytes())?;
    }
    std::os::unix::fs::symlink("/etc", root.join("out of the tree"))?;
    std::os::unix::fs::symlink("file 1.txt", root.join("folder 0").join("to a file"))?;
    Ok(())
}
