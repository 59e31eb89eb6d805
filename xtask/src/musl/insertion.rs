//! One insertion into a file of musl.

/// A version of musl.
pub type Version = [u32; 3];

/// The oldest supported version.
pub const FIRST: Version = [1, 2, 3];

#[derive(Clone, Copy, Debug)]
pub struct Insertion {
    /// The file, relative to the root of musl's source.
    pub file: &'static str,
    /// The first version with the file: earlier ones may lack it. Where the file exists, the anchor must too.
    pub since: Version,
    /// Text that occurs in the file exactly once.
    pub anchor: &'static str,
    pub side: Side,
    pub text: &'static str,
    /// Why there and not one line later.
    pub why: &'static str,
}

/// The position of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Just before the anchor.
    Before,
    /// Just after the anchor.
    After,
}

/// An insertion into every version.
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
        anchor,
        side,
        text,
        why,
    }
}

/// The same, from a version on.
pub const fn since(version: Version, insertion: Insertion) -> Insertion {
    Insertion {
        since: version,
        ..insertion
    }
}
