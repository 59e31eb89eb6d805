//! The per-CPU structures under crowds of threads, and beside their broken variants.

pub mod buffer;
pub mod bytes;
pub mod cards;
pub mod children;
pub mod counter;
pub mod crowd;
pub mod drains;
pub mod forked;
mod fresh;
pub mod here;
pub mod list;
pub mod offline;
pub mod rounds;
pub mod rude;
pub mod slow;
pub mod stepped;
