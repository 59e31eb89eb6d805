//! Broken variants that the tests must detect: in a build with `--cfg rseq_rt_std_broken`, the one named in the
//! environment.

use std::sync::OnceLock;

static NAMED: OnceLock<Option<String>> = OnceLock::new();

/// Whether this variant is named. Always `false` in any other build. Takes no lock after the first call.
#[inline(always)]
pub(super) fn is(variant: &str) -> bool {
    cfg!(rseq_rt_std_broken) && named().as_deref() == Some(variant)
}

fn named() -> &'static Option<String> {
    NAMED.get_or_init(|| std::env::var("RSEQ_RT_STD_BROKEN").ok())
}
