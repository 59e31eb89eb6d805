//! The word count of the green threads against find(1) and wc(1), on the same trees.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{Selection, green};
use crate::install::Need;
use crate::lab::Lab;
use crate::outcome::{Outcome, Trouble, Verdict};
use crate::place::Place;
use crate::process::{self, command};

/// The names of the tests: a tree that is made for it, and the project's own sources.
pub const TESTS: [&str; 2] = ["words_of_a_made_tree", "words_of_the_sources"];

/// The folders of the project's own sources.
const SOURCES: [&str; 4] = ["src", "arch", "tests-qemu", "examples"];

const QUEUES: [&str; 3] = ["percpu", "mpmc", "mutex"];

/// The ordinary tools.
pub fn needs() -> Vec<Need> {
    let why = "counting the words of a tree";
    vec![
        Need::new("find", &["findutils"], why),
        Need::new("wc", &["coreutils"], why),
    ]
}

/// Runs the selected tests at `place`.
pub fn run(lab: &Lab, place: &Place, selection: &Selection) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for test in TESTS {
        if !selection.wants(green::NAME, test) {
            continue;
        }
        let verdict = match one(lab, place, test) {
            Ok(verdict) => verdict,
            Err(why) => match why.downcast::<Missing>() {
                Ok(Missing(trouble)) => trouble.verdict(place.required()),
                Err(why) => Verdict::Missing(format!("{why:#}")),
            },
        };
        outcomes.push(Outcome::new(&place.cell(None), green::NAME, test, verdict));
    }
    outcomes
}

/// A [`Trouble`] on its way through `?`.
#[derive(Debug)]
struct Missing(Trouble);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Missing {}

fn one(lab: &Lab, place: &Place, test: &str) -> Result<Verdict> {
    let made;
    let trees: Vec<PathBuf> = if test == TESTS[0] {
        made = tempfile::tempdir()?;
        make_tree(made.path())?;
        vec![made.path().to_owned()]
    } else {
        SOURCES.iter().map(|folder| lab.root.join(folder)).collect()
    };
    let (mut words, mut files, mut steals) = (0, 0, 0);
    for tree in &trees {
        let expected = by_tools(tree)?;
        let path = tree.to_str().context("a path that is text")?;
        for queue in QUEUES {
            let arguments = ["wc", path, "--queue", queue];
            let run = green::start(lab, place, &arguments).map_err(Missing)?;
            let output = &run.finished.output;
            if !run.finished.ok() {
                let why = format!(
                    "{queue}: {}: {}",
                    run.finished.end,
                    process::tail(output, 3)
                );
                return Ok(Verdict::Failed(why));
            }
            let number = |key: &str| number_after(output, key);
            let counted = (number("words"), number("files"));
            if counted != (Some(expected.0), Some(expected.1)) {
                let why = format!("{queue}: {counted:?} where find and wc say {expected:?}");
                return Ok(Verdict::Failed(why));
            }
            steals += number("steals").unwrap_or_default();
        }
        words += expected.0;
        files += expected.1;
    }
    let detail = format!("{words} words in {files} files over each queue, {steals} steals");
    Ok(Verdict::Passed(detail))
}

/// Words and files, as find and wc count them.
fn by_tools(tree: &Path) -> Result<(u64, u64)> {
    // A locale in which all printable text makes words, ASCII or not.
    let script = r#"find "$1" -type f -print0 | LC_ALL=C.UTF-8 wc -w --files0-from=-"#;
    let mut count = command("sh");
    count.args(["-c", script, "sh"]).arg(tree);
    let counted = process::run(&mut count, Duration::from_secs(120))?;
    ensure!(counted.ok(), "find and wc: {}", counted.tail(3));
    let lines: Vec<&str> = counted.output.lines().collect();
    // One line a file, and their sum under it.
    let total = lines.last().context("wc said nothing")?.trim();
    let words = total
        .strip_suffix("total")
        .context("wc gives no total for less than two files")?;
    Ok((words.trim().parse()?, lines.len() as u64 - 1))
}

fn number_after(text: &str, key: &str) -> Option<u64> {
    let mut words = text.split_whitespace();
    words.find(|word| *word == key)?;
    words.next()?.parse().ok()
}

/// Everything that a word count can get wrong: each kind of space, words across the reader's chunks, no line feed at
/// the end, empty files, deep folders, names with spaces, links that lead out.
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
        // From nothing to three chunks of the reader.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_by_its_word() {
        let text = "words 12 bytes 70 files 3 errors 0\nqueue mutex steals 5\n";
        assert_eq!(number_after(text, "files"), Some(3));
        assert_eq!(number_after(text, "steals"), Some(5));
        assert_eq!(number_after(text, "folders"), None);
    }
}
