//! The tests of the hooks, one family a file. Each hazard has its broken variant beside it.

pub mod areas;
pub mod at_exit;
pub mod at_exit_storm;
pub mod basic;
pub mod children;
pub mod counts;
pub mod ends;
pub mod filtered;
pub mod foreign;
pub mod lifetime;
pub mod lifetime_keep;
pub mod lifetime_poison;
pub mod lifetime_scoped;
pub mod lifetime_traced;
pub mod lifetime_view;
pub mod slice;
pub mod storms;
pub mod storms_mask;
pub mod storms_steps;
pub mod storms_weather;
pub mod v2;
