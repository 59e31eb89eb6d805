//! The broken variants that the tests are to find: in a build with `--cfg rseq_rt_std_broken`, the one that the environment
//! names.

use std::sync::OnceLock;

static NAMED: OnceLock<Option<String>> = OnceLock::new();

/// Is this the one? Nothing but `false` in every other build. After the first time, without a lock.
#[inline(always)]
pub(super) fn is(variant: &str) -> bool {
    cfg!(rseq_rt_std_broken) && named().as_deref() == Some(variant)
}

fn named() -> &'static Option<String> {
    NAMED.get_or_init(|| std::env::var("RSEQ_RT_STD_BROKEN").ok())
}
