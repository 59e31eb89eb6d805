//! Bytes of text, on each CPU that can be compiled for.

use serde::Serialize;

use super::programs::Skipped;
use crate::arch::Arch;
use crate::families::{code_sizes, operation_sizes};
use crate::lab::Lab;
use crate::outcome::Verdict;

/// Of one CPU.
#[derive(Clone, Debug, Serialize)]
pub struct Sizes {
    /// The CPU.
    pub arch: Arch,
    /// Of the hooks: what, and its bytes.
    pub bytes: Vec<(String, u64)>,
    /// Of each operation: a function of it, and its abort handler.
    pub operations: Vec<(String, u64)>,
}

/// Of all.
pub fn all(lab: &Lab, skipped: &mut Vec<Skipped>) -> Vec<Sizes> {
    let mut sizes = Vec::new();
    for arch in Arch::ALL {
        let hooks = match code_sizes(lab, arch) {
            Verdict::Passed(text) => Ok(parse(&text)),
            other => Err(other),
        };
        match hooks.and_then(|bytes| Ok((bytes, operation_sizes(lab, arch)?))) {
            Ok((bytes, operations)) => sizes.push(Sizes {
                arch,
                bytes,
                operations,
            }),
            Err(
                Verdict::Passed(why)
                | Verdict::Failed(why)
                | Verdict::Missing(why)
                | Verdict::Skipped(why),
            ) => skipped.push(Skipped {
                group: "size".to_owned(),
                variant: arch.name().to_owned(),
                why,
            }),
        }
    }
    sizes
}

/// `create 127, init 244; together 371 bytes of text`.
fn parse(text: &str) -> Vec<(String, u64)> {
    let one = |part: &str| {
        let mut words = part.split_whitespace();
        let name = words.next()?;
        Some((name.to_owned(), words.next()?.parse().ok()?))
    };
    text.split([',', ';']).filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_report_of_the_link_family_is_read() {
        let read = super::parse("create 127, init 244, shared 9; together 371 bytes of text");
        let names: Vec<&str> = read.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["create", "init", "shared", "together"]);
        assert_eq!(read[3].1, 371);
    }
}
