//! The job: the words of a file tree, a green thread a file.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use guests::errno::Errno;
use guests::println;

use crate::files::{self, Kind, Path};
use crate::green::Handle;
use crate::queue::RunQueue;
use crate::runtime::Runtime;
use crate::switch::yield_now;

/// Bytes read at a time; between two, others may run.
const CHUNK: usize = 16 * 1024;

/// What was found.
#[derive(Default, Debug)]
pub struct Totals {
    /// Words, as `wc -w` counts them.
    pub words: AtomicU64,
    /// Bytes.
    pub bytes: AtomicU64,
    /// Regular files.
    pub files: AtomicU64,
    /// What could not be opened or read.
    pub errors: AtomicU64,
}

impl Totals {
    fn refused(&self, path: &Path, why: Errno) {
        self.errors.fetch_add(1, Relaxed);
        let name = path.strip_suffix(b"\0").unwrap_or(path);
        println!("green wc: {}: {why}", name.escape_ascii());
    }
}

/// Between two words?
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Counts one file.
fn count(path: &Path, totals: &Totals) -> Result<(), Errno> {
    let file = files::open_file(path)?;
    let mut chunk = [const { MaybeUninit::uninit() }; CHUNK];
    let (mut words, mut bytes, mut inside) = (0u64, 0u64, false);
    loop {
        let read = file.read(&mut chunk)?;
        if read.is_empty() {
            break;
        }
        bytes += read.len() as u64;
        for &byte in read {
            let space = is_space(byte);
            words += u64::from(!space && !inside);
            inside = !space;
        }
        yield_now();
    }
    totals.words.fetch_add(words, Relaxed);
    totals.bytes.fetch_add(bytes, Relaxed);
    totals.files.fetch_add(1, Relaxed);
    Ok(())
}

/// Walks the tree below `root` and has each file counted by a green thread of its own, `at_once` at a
/// time. Runs on a green thread itself.
///
/// # Errors
/// What mmap(2) says.
pub fn walk<Q: RunQueue>(
    runtime: &'static Runtime<Q>,
    root: Path,
    at_once: usize,
    totals: &Arc<Totals>,
) -> Result<(), Errno> {
    let mut running: VecDeque<Handle> = VecDeque::new();
    let mut folders: Vec<Path> = Vec::new();
    let mut found: Vec<Path> = Vec::new();
    match files::kind(&root) {
        Ok(Kind::Folder) => folders.push(root),
        Ok(Kind::File) => found.push(root),
        Ok(Kind::Other) => totals.refused(&root, Errno::INVAL),
        Err(why) => totals.refused(&root, why),
    }
    loop {
        for file in found.drain(..) {
            if running.len() >= at_once.max(1)
                && let Some(oldest) = running.pop_front()
            {
                oldest.join();
            }
            let totals = Arc::clone(totals);
            // SAFETY: (1) it keeps a path, a descriptor and counts across its switches.
            let handle = unsafe {
                runtime.spawn(move || {
                    if let Err(why) = count(&file, &totals) {
                        totals.refused(&file, why);
                    }
                })
            };
            running.push_back(handle?);
        }
        let Some(folder) = folders.pop() else {
            break;
        };
        let listed = files::list(&folder, |name, kind| match kind {
            Kind::File => found.push(files::below(&folder, name)),
            Kind::Folder => folders.push(files::below(&folder, name)),
            Kind::Other => {}
        });
        if let Err(why) = listed {
            totals.refused(&folder, why);
        }
    }
    running.into_iter().for_each(Handle::join);
    Ok(())
}

/// The number in an argument.
pub fn number(text: &[u8]) -> Option<u64> {
    core::str::from_utf8(text).ok()?.parse().ok()
}

/// A line for people and for the host runner.
pub fn report(totals: &Totals) {
    let [words, bytes, files, errors] =
        [&totals.words, &totals.bytes, &totals.files, &totals.errors].map(|n| n.load(Relaxed));
    println!("words {words} bytes {bytes} files {files} errors {errors}");
}
