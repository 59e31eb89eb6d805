//! Mutants: this program with one instruction of a section changed. Each runs the selected tests until one of them
//! fails, which *kills* it. The runner makes them from the program's file, and passes them as words.
//!
//! ```text
//! @mutant NUMBER killed TEST: TEXT | survived
//! @mutant none skipped TEST: TEXT
//! ```

use core::ffi::CStr;
use core::slice;

use super::run::Isolation;
use super::{Ctx, Kind, Test};
use crate::errno::Errno;
use crate::percpu::steps::focus;
use crate::sys::mm::{self, Access};
use crate::sys::{io, process};
use crate::text::Text;
use crate::{arch, println};

/// A mutant: its section, as for [`focus`], and its changes.
struct Mutant {
    index: usize,
    section: usize,
    patches: &'static [Patch],
}

/// Bytes to write at one place.
#[repr(C)]
struct Patch {
    at: usize,
    length: usize,
    bytes: [u8; 32],
}

/// The maximum size of a file of mutants.
const ROOM: usize = 1 << 20;

/// The words of a file: for each mutant the kind of index, the section, the number of its patches, and the patches.
fn read(path: &CStr) -> Result<&'static [usize], Errno> {
    let room = mm::map(ROOM, Access::ReadWrite)?;
    // SAFETY: a new mapping, which stays.
    let bytes = unsafe { slice::from_raw_parts_mut(room, ROOM) };
    let file = io::open_read_write(path)?;
    let mut length = 0;
    while let more @ 1.. = io::read(file, &mut bytes[length..])? {
        length += more;
    }
    assert!(length < ROOM, "too many mutants");
    io::close(file)?;
    // SAFETY: the same memory, which nobody writes any more; page-aligned.
    Ok(unsafe { slice::from_raw_parts(room.cast(), length / 8) })
}

/// The mutant at the start of `words`.
fn next(words: &mut &'static [usize]) -> Option<Mutant> {
    const WORDS: usize = size_of::<Patch>() / 8;
    let (&[index, section, count], rest) = words.split_first_chunk()?;
    let (patches, rest) = rest.split_at_checked(count * WORDS)?;
    *words = rest;
    // SAFETY: as many patches, each of whole words.
    let patches = unsafe { slice::from_raw_parts(patches.as_ptr().cast(), count) };
    Some(Mutant {
        index,
        section,
        patches,
    })
}

/// Patches the code of this process, which is a child that ends with its test.
fn apply(patches: &[Patch]) {
    for patch in patches {
        let bytes = &patch.bytes[..patch.length];
        // SAFETY: write_code (1) violated: the test has to notice the effect; flush_code (1).
        unsafe {
            mm::write_code(patch.at, bytes).unwrap();
            arch::flush_code(patch.at, bytes.len());
        }
    }
}

/// The test that killed it, and how; `None` if it survived all of them.
fn killer<'a>(
    mutant: &Mutant,
    tests: impl Iterator<Item = &'a Test>,
    ctx: &Ctx<'_>,
    isolation: &Isolation,
) -> Option<(&'static str, Text)> {
    for test in tests {
        // Processor time, of each process of the test: an endless loop ends, and a busy machine does no harm.
        let emulated = test.limit / 100 * ctx.patience;
        let seconds = ctx.scale(1, emulated, emulated);
        let (kind, why) = isolation.run(test.limit * ctx.patience, || {
            focus(mutant.index, mutant.section);
            if !mutant.patches.is_empty() {
                process::limit_time(seconds);
                process::no_core_dump();
                apply(mutant.patches);
            }
            (test.run)(ctx);
        });
        if kind == Kind::Failed {
            return Some((test.name, why));
        }
    }
    None
}

/// Judges the mutants in the file of that name. Returns the exit code.
pub(super) fn judge<'a, T: Iterator<Item = &'a Test>>(
    path: &'static [u8],
    tests: impl Fn() -> T,
    ctx: &Ctx<'_>,
    isolation: &Isolation,
) -> i32 {
    for test in tests() {
        if let Some(why) = test.needs.missing(ctx.facts, ctx.scale) {
            println!("@mutant none skipped {}: {why}", test.name);
            return 0;
        }
    }
    // SAFETY: an argument of the program, which ends in a zero.
    let path = unsafe { CStr::from_ptr(path.as_ptr().cast()) };
    let mut words = match read(path) {
        Ok(words) => words,
        Err(errno) => {
            println!("the mutants cannot be read: {errno}");
            return 2;
        }
    };
    let mut number = 0;
    while let Some(mutant) = next(&mut words) {
        match killer(&mutant, tests(), ctx, isolation) {
            Some((test, why)) => println!("@mutant {number} killed {test}: {why}"),
            None => println!("@mutant {number} survived"),
        }
        number += 1;
    }
    0
}
