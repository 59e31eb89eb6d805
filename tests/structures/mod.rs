//! The structures with sections that are aborted, and threads that are switched, at every step.

mod buffer;
mod bytes;
mod counter;
mod fake;
mod fence;
// Under Miri no plan departs from the plain one, so that no thread would vanish.
#[cfg(not(miri))]
mod fork;
mod list;
mod storage;
mod world;
