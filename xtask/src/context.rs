//! Shared by everything: the workspace, the permissions of the command line, and a cache of what was made.

use std::any::Any;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::outcome::copy;
use crate::process::lock;
use crate::progress::{Progress, Step};

/// Something that was made, or why it could not be.
type Slot = Arc<Mutex<Option<Result<Box<dyn Any + Send>>>>>;

/// The shared part of a run.
pub struct Context {
    pub root: PathBuf,
    pub progress: Progress,
    /// Whether this machine may be changed.
    pub install: bool,
    /// How long a guest may be silent until it is taken for hung.
    pub timeout: Duration,
    /// `--only`, which is passed on to the guests.
    pub only: Vec<String>,
    /// `--bless`: what is generated becomes what is expected.
    pub bless: bool,
    made: Mutex<HashMap<String, Slot>>,
}

impl Context {
    /// For the workspace this program was built from.
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

    /// One line of progress that stays.
    pub fn say(&self, text: impl AsRef<str>) {
        self.progress.say(text);
    }

    /// Something that goes on until what is returned is dropped.
    pub fn step(&self, text: impl Into<String>) -> Step {
        self.progress.step(text)
    }

    /// Where downloads and reports go.
    pub fn store(&self) -> PathBuf {
        self.root.join("target/xtask")
    }

    /// Makes something on first use and once; whoever asks meanwhile waits for it.
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
