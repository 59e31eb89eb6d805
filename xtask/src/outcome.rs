//! One test in one cell of the matrix, and what became of it.

use std::time::Duration;

use serde::Serialize;

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "detail", rename_all = "lowercase")]
pub enum Verdict {
    /// It passed, with a detail worth telling or an empty text.
    Passed(String),
    /// It failed, and why.
    Failed(String),
    /// It was not run, because...
    Skipped(String),
    /// It is required, and this machine lacks what it needs: because...
    /// Counted as failed, or as skipped under `--allow-missing`.
    Missing(String),
}

/// Why something could not be made or started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// This machine lacks something: because...
    Missing(String),
    /// What is ours is broken, which nothing excuses.
    Broken(String),
}

impl Trouble {
    /// The verdict on a test that met it.
    pub fn verdict(self, required: bool) -> Verdict {
        match self {
            Trouble::Broken(why) => Verdict::Failed(why),
            Trouble::Missing(why) if required => Verdict::Missing(why),
            Trouble::Missing(why) => Verdict::Skipped(why),
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Missing(why) | Trouble::Broken(why) => f.write_str(why),
        }
    }
}

/// A column of the matrix, such as `aarch64/7.2`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Cell {
    /// Where the column stands.
    #[serde(skip)]
    pub order: usize,
    /// What stands above it.
    pub label: String,
}

/// One test in one cell.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The column.
    pub cell: Cell,
    /// The family, such as `suite`.
    pub family: &'static str,
    /// The test's own name.
    pub test: String,
    /// What became of it.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The end of what was said, for a failure.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub console: String,
    /// How long it took, where it was timed on its own.
    pub seconds: f64,
}

impl Outcome {
    /// An outcome without console and time.
    pub fn new(
        cell: &Cell,
        family: &'static str,
        test: impl Into<String>,
        verdict: Verdict,
    ) -> Self {
        Outcome {
            cell: cell.clone(),
            family,
            test: test.into(),
            verdict,
            console: String::new(),
            seconds: 0.0,
        }
    }

    /// The same with the end of a console, kept only where something failed.
    pub fn with_console(mut self, console: &str) -> Self {
        if matches!(self.verdict, Verdict::Failed(_) | Verdict::Missing(_)) {
            self.console = crate::process::tail(console, 40);
        }
        self
    }

    /// The same with the time it took.
    pub fn took(mut self, time: Duration) -> Self {
        self.seconds = (time.as_secs_f64() * 1000.0).round() / 1000.0;
        self
    }

    /// `family::test`, what `--only` looks at.
    pub fn name(&self) -> String {
        format!("{}::{}", self.family, self.test)
    }
}
