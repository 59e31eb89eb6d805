//! The structures over sections that are aborted, and threads that are switched, at every step.

mod buffer;
mod bytes;
mod counter;
mod fake;
mod fence;
mod fork;
mod list;
mod storage;
mod world;
