//! Whether rseq is in use here, and if not, why: for a log, a bug report, or a person in front of a debugger.

pub(crate) mod remedy;
mod text;
pub(crate) mod values;
