//! The tests of the hooks, one topic per file, each hazard with its broken variant.

pub mod areas;
pub mod at_exit;
pub mod basic;
pub mod children;
pub(crate) mod common;
pub mod counts;
pub mod ends;
pub mod filtered;
pub mod filters;
pub mod foreign;
pub mod lifetime;
pub mod linux7;
pub mod loans;
pub mod slice;
pub mod storms;
pub mod trapped;
pub mod walk;
