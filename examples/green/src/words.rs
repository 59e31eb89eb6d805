//! The job: counting the words of a file tree, with one green thread per file.

use alloc::collections::VecDeque;
use alloc::ffi::CString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::mem::MaybeUninit;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::files;
use crate::green::Handle;
use crate::println;
use crate::queue::RunQueue;
use crate::runtime::Runtime;
use crate::switch::yield_now;

/// Bytes read at a time; between two, others may run.
const CHUNK: usize = 16 * 1024;

/// The counts.
#[derive(Default, Debug)]
pub struct Totals {
    /// Words, as `wc -w` counts them.
    pub words: AtomicU64,
    /// Bytes.
    pub bytes: AtomicU64,
    /// Regular files.
    pub files: AtomicU64,
    /// Files and folders that could not be opened or read.
    pub errors: AtomicU64,
}

impl Totals {
    fn refused(&self, path: &CStr, why: Errno) {
        self.errors.fetch_add(1, Relaxed);
        println!("green wc: {}: {why}", path.to_bytes().escape_ascii());
    }
}

/// Whether the byte separates words.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Counts one file.
fn count(path: &CStr, totals: &Totals) -> Result<(), Errno> {
    let file = files::open(path, OFlags::empty())?;
    let mut chunk = [const { MaybeUninit::uninit() }; CHUNK];
    let (mut words, mut bytes, mut inside) = (0u64, 0u64, false);
    loop {
        let (read, _) = rustix::io::read(&file, &mut chunk)?;
        if read.is_empty() {
            break;
        }
        bytes += read.len() as u64;
        for &mut byte in read {
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
/// Those of mmap(2).
pub fn walk<Q: RunQueue>(
    runtime: &'static Runtime<Q>,
    root: CString,
    at_once: usize,
    totals: &Arc<Totals>,
) -> Result<(), Errno> {
    let mut running: VecDeque<Handle> = VecDeque::new();
    let mut folders: Vec<CString> = Vec::new();
    let mut found: Vec<CString> = Vec::new();
    match files::kind(&root) {
        Ok(FileType::Directory) => folders.push(root),
        Ok(FileType::RegularFile) => found.push(root),
        Ok(_) => totals.refused(&root, Errno::INVAL),
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
            // SAFETY: (1) it keeps only a path, a descriptor and counts across its switches.
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
            FileType::RegularFile => found.push(files::below(&folder, name)),
            FileType::Directory => folders.push(files::below(&folder, name)),
            _ => {}
        });
        if let Err(why) = listed {
            totals.refused(&folder, why);
        }
    }
    running.into_iter().for_each(Handle::join);
    Ok(())
}

/// A line for users and for the host runner.
pub fn report(totals: &Totals) {
    let [words, bytes, files, errors] =
        [&totals.words, &totals.bytes, &totals.files, &totals.errors].map(|n| n.load(Relaxed));
    println!("words {words} bytes {bytes} files {files} errors {errors}");
}
