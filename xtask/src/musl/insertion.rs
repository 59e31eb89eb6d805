//! One insertion into a file of musl.

use crate::arch::Arch;

/// A version of musl.
pub type Version = [u32; 3];

/// The first that the insertions were made for.
pub const FIRST: Version = [1, 2, 3];

#[derive(Clone, Copy, Debug)]
pub struct Insertion {
    /// The file, from the root of musl's source.
    pub file: &'static str,
    /// The first version that has the place; in those before it there is nothing to insert into. In all from it on the
    /// file and the anchor must be there.
    pub since: Version,
    /// For one CPU only.
    pub arch: Option<Arch>,
    /// Text that is in the file exactly once.
    pub anchor: &'static str,
    pub side: Side,
    pub text: &'static str,
    /// Why there and not one line later.
    pub why: &'static str,
}

/// Where the text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Just before the anchor.
    Before,
    /// Just after the anchor.
    After,
}

/// Into every version on every CPU.
pub const fn at(
    file: &'static str,
    side: Side,
    anchor: &'static str,
    text: &'static str,
    why: &'static str,
) -> Insertion {
    Insertion {
        file,
        since: FIRST,
        arch: None,
        anchor,
        side,
        text,
        why,
    }
}

/// The same on one CPU.
pub const fn on(arch: Arch, insertion: Insertion) -> Insertion {
    Insertion {
        arch: Some(arch),
        ..insertion
    }
}

/// The same from a version on.
pub const fn since(version: Version, insertion: Insertion) -> Insertion {
    Insertion {
        since: version,
        ..insertion
    }
}
