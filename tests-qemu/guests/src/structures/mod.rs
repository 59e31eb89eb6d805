//! The per-CPU structures under crowds of threads, with their broken variants.

pub mod buffer;
pub mod bytes;
mod cards;
pub mod children;
pub mod counter;
mod crowd;
pub mod drains;
pub mod forked;
mod fresh;
mod here;
pub mod list;
pub mod offline;
pub mod rounds;
pub mod rude;
pub mod slow;
pub mod stepped;
