//! The tests of the per-CPU operations.

pub mod edges;
pub mod ids;
pub mod known_bad;
pub mod orders;
pub mod own;
pub mod probed;
mod rig;
mod single;
mod slot;
pub mod steps;
mod stops;
pub mod stress;
pub mod unprotected;
pub(crate) mod work;

use crate::harness::Ctx;
use crate::hooked::{self, RSEQ};

pub(crate) fn init(ctx: &Ctx<'_>) {
    assert_eq!(RSEQ.init(hooked::config(ctx.env)), Ok(None));
    RSEQ.allow_sections();
}
