//! To be written.

use crate::harness::Test;

/// The family.
pub const TESTS: &[Test] = &[];
