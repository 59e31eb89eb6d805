//! The tests of the hooks, one family a file. Each hazard has its broken variant beside it.

pub mod areas;
mod areas_auxv;
mod areas_kernel;
mod areas_misuse;
pub mod at_exit;
pub mod basic;
pub mod children;
pub mod counts;
mod counts_calls;
mod counts_exits;
mod counts_without;
pub mod ends;
pub mod filtered;
mod filtered_calls;
mod filtered_middle;
pub mod foreign;
mod foreign_late;
mod foreign_trio;
pub mod lifetime;
pub mod slice;
pub mod storms;
pub mod v2;
