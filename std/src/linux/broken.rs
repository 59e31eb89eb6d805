//! The broken variants that the tests are to find: in a build with `--cfg rseq_rt_std_broken`, the one that the environment
//! names.

/// Is this the one? Nothing but `false` in every other build.
#[inline(always)]
pub(super) fn is(variant: &str) -> bool {
    cfg!(rseq_rt_std_broken)
        && std::env::var("RSEQ_RT_STD_BROKEN").is_ok_and(|named| named == variant)
}
