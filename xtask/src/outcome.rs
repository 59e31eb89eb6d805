//! The outcome of a case, and the two errors that carry more than a text.

use std::fmt;

use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "detail", rename_all = "lowercase")]
pub enum Outcome {
    Passed(String),
    Failed(String),
    /// Not run, with the reason.
    Skipped(String),
    /// Required, but this machine lacks something. Counts as failed, or as skipped under `--allow-missing`.
    Missing(String),
}

impl Outcome {
    /// Passed, without a note.
    pub fn passed() -> Self {
        Outcome::Passed(String::new())
    }

    /// The outcome of a case that ended in `error`, and its console.
    pub fn of(error: &anyhow::Error, required: bool) -> (Self, String) {
        if let Some(missing) = error.downcast_ref::<Missing>() {
            let why = missing.why.clone();
            let outcome = match required && missing.required {
                true => Outcome::Missing(why),
                false => Outcome::Skipped(why),
            };
            return (outcome, String::new());
        }
        match error.downcast_ref::<Failure>() {
            Some(failure) => (
                Outcome::Failed(failure.why.clone()),
                failure.console.clone(),
            ),
            None => (Outcome::Failed(format!("{error:#}")), String::new()),
        }
    }
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Outcome::passed()
    }
}

impl From<String> for Outcome {
    fn from(note: String) -> Self {
        Outcome::Passed(note)
    }
}

/// The error for something missing on this machine. A case that meets it never passes.
#[derive(Clone, Debug)]
pub struct Missing {
    why: String,
    required: bool,
}

impl Missing {
    /// Required for a complete run.
    pub fn required(why: impl fmt::Display) -> anyhow::Error {
        let why = why.to_string();
        let required = true;
        Missing { why, required }.into()
    }

    /// Not required for a complete run.
    pub fn optional(why: impl fmt::Display) -> anyhow::Error {
        let why = why.to_string();
        let required = false;
        Missing { why, required }.into()
    }

    /// Turns any error into a missing requirement: for downloads and toolchains.
    pub fn from(error: anyhow::Error) -> anyhow::Error {
        Missing::required(format!("{error:#}"))
    }

    /// Makes a missing requirement optional.
    pub fn excused(error: anyhow::Error) -> anyhow::Error {
        match error.downcast::<Missing>() {
            Ok(missing) => Missing::optional(missing.why),
            Err(error) => error,
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Missing {}

/// A failure with its console.
#[derive(Clone, Debug)]
pub struct Failure {
    pub why: String,
    pub console: String,
}

impl Failure {
    pub fn error(why: impl Into<String>, console: impl Into<String>) -> anyhow::Error {
        let (why, console) = (why.into(), console.into());
        Failure { why, console }.into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.why, tail(&self.console, 8))
    }
}

impl std::error::Error for Failure {}

/// A copy of an error with the same message: `anyhow::Error` is not `Clone`.
pub fn copy(error: &anyhow::Error) -> anyhow::Error {
    if let Some(missing) = error.downcast_ref::<Missing>() {
        missing.clone().into()
    } else if let Some(failure) = error.downcast_ref::<Failure>() {
        failure.clone().into()
    } else {
        anyhow::anyhow!("{error:#}")
    }
}

/// The last `lines` non-empty lines of `text`.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn what_is_missing_is_never_passed_nor_failed_for_good() {
        let lost = Missing::required("no qemu");
        assert_eq!(
            Outcome::of(&lost, true).0,
            Outcome::Missing("no qemu".into())
        );
        assert_eq!(
            Outcome::of(&lost, false).0,
            Outcome::Skipped("no qemu".into())
        );
        let excused = Missing::excused(copy(&lost));
        assert_eq!(
            Outcome::of(&excused, true).0,
            Outcome::Skipped("no qemu".into())
        );
        let deep = Err::<(), _>(lost).context("while booting").unwrap_err();
        assert!(matches!(Outcome::of(&deep, true).0, Outcome::Missing(_)));
        let broken = Failure::error("exit code 1", "a\nb\n");
        let (outcome, console) = Outcome::of(&copy(&broken), true);
        assert_eq!(
            (outcome, &*console),
            (Outcome::Failed("exit code 1".into()), "a\nb\n")
        );
        assert_eq!(
            Outcome::of(&Missing::excused(broken), true).0,
            Outcome::Failed("exit code 1".into())
        );
    }
}
