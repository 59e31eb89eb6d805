//! The tests of the hooks, one family a file. Each hazard has its broken variant beside it.

pub mod areas;
pub mod at_exit;
pub mod basic;
pub mod children;
mod common;
pub mod counts;
pub mod ends;
pub mod filtered;
pub mod filters;
pub mod foreign;
pub mod lifetime;
pub mod lifetime_keep;
pub mod lifetime_kept;
pub mod lifetime_poison;
pub mod lifetime_scoped;
pub mod lifetime_traced;
pub mod lifetime_view;
pub mod loans;
pub mod slice;
mod slice_played;
pub mod storms;
pub mod storms_mask;
pub mod storms_steps;
pub mod storms_weather;
pub mod trapped;
pub mod v2;
pub mod v2_ids;
pub mod v2_steps;
pub mod walk;

// For the files that have the old name.
pub use children::exec as children_exec;
