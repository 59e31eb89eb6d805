//! Shared state of a run: workspace, permissions from the command line, and a cache of what was built.

use std::any::Any;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::outcome::copy;
use crate::process::lock;
use crate::progress::{Progress, Step};

/// A cached result, or why there is none.
type Slot = Arc<Mutex<Option<Result<Box<dyn Any + Send>>>>>;

pub struct Context {
    pub root: PathBuf,
    pub progress: Progress,
    /// Whether packages may be installed on this machine.
    pub install: bool,
    /// How long a guest may be silent before it counts as hung.
    pub timeout: Duration,
    /// `--only`, passed on to the guests.
    pub only: Vec<String>,
    /// `--bless`: generated text replaces the expected text.
    pub bless: bool,
    made: Mutex<HashMap<String, Slot>>,
}

impl Context {
    /// The context for the workspace that this program was built from.
    pub fn new(install: bool, timeout: u64) -> Result<Context> {
        let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let here = here.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        let root = here.parent().context("the workspace's root")?.to_owned();
        std::fs::create_dir_all(root.join("target/xtask/kernels"))?;
        Ok(Context {
            root,
            progress: Progress::new(),
            install,
            timeout: Duration::from_secs(timeout),
            only: Vec::new(),
            bless: false,
            made: Mutex::default(),
        })
    }

    /// Prints a progress line that stays.
    pub fn say(&self, text: impl AsRef<str>) {
        self.progress.say(text);
    }

    /// Shows a step in progress until the returned value is dropped.
    pub fn step(&self, text: impl Into<String>) -> Step {
        self.progress.step(text)
    }

    /// The folder for downloads and reports.
    pub fn store(&self) -> PathBuf {
        self.root.join("target/xtask")
    }

    /// Makes something once, on first use; concurrent callers wait for it.
    pub fn once<T: Clone + Send + 'static>(
        &self,
        key: impl Into<String>,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let slot = Arc::clone(lock(&self.made).entry(key.into()).or_default());
        let mut slot = lock(&slot);
        let made = slot.get_or_insert_with(|| make().map(|made| Box::new(made) as _));
        match made {
            Ok(made) => {
                let made = made.downcast_ref::<T>();
                made.cloned().context("one key for two kinds of things")
            }
            Err(error) => Err(copy(error)),
        }
    }
}
