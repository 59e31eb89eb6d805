//! The tests of the hooks, one family a file. Each hazard has its broken variant beside it.

pub mod areas;
pub mod at_exit;
pub mod basic;
pub mod children;
pub mod children_exec;
pub mod children_vfork;
pub mod counts;
pub mod ends;
pub mod ends_refused;
pub mod filtered;
pub mod foreign;
pub mod lifetime;
pub mod slice;
pub mod storms;
pub mod v2;
pub mod v2_ids;
pub mod v2_steps;
