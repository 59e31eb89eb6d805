//! The ids themselves, under both lengths: right after each migration, and as small as the kernel promises.

use core::sync::atomic::Ordering::Relaxed;

use rseq_rt::abi::{FEATURE_SIZE_MM_CID, FEATURE_SIZE_NODE_ID};
use rseq_rt::{Area, Thread};

use super::{STACK, begin};
use crate::harness::{Ctx, must_pass};
use crate::hooked::{self, Hooked, RSEQ};
use crate::hooks::common::joined_at_once;
use crate::sys::sched::{self, CpuSet};
use crate::witness;

/// Runs `body` with each length in its own process.
fn with_both(ctx: &Ctx<'_>, body: impl Fn(&'static Area)) {
    let config = hooked::config(ctx.env);
    for config in [config, config.legacy_length()] {
        must_pass(|| body(begin(config)));
    }
}

/// Checks on each CPU all ids that the feature size declares valid. At most `threads` are alive.
fn assert_ids(area: &Area, threads: u32) {
    let cpus = witness::cpus();
    let ids = witness::rseq_of(area);
    let bound = threads.min(cpus.count());
    for cpu in cpus.iter() {
        sched::allow(0, &CpuSet::one(cpu)).unwrap();
        let (_, node) = sched::getcpu().unwrap();
        assert_eq!(RSEQ.current_cpu(area), Ok(cpu));
        assert_eq!(ids.cpu_id_start.load(Relaxed), cpu);
        assert_eq!(RSEQ.current_node(area), Ok(node));
        if RSEQ.feature_size() >= FEATURE_SIZE_NODE_ID {
            assert_eq!(ids.node_id.load(Relaxed), node);
        }
        let cid = RSEQ.current_mm_cid(area);
        assert_eq!(cid.is_some(), RSEQ.feature_size() >= FEATURE_SIZE_MM_CID);
        assert!(cid.is_none_or(|cid| cid < bound), "{cid:?} of {bound}");
    }
    sched::allow(0, &cpus).unwrap();
}

pub(super) fn after_each_move(ctx: &Ctx<'_>) {
    const AT_ONCE: usize = 5;
    fn body(thread: &Thread<'_>, hooked: &Hooked) {
        for _ in 0..hooked.argument {
            // Those here and the main thread, which waits.
            assert_ids(thread.area(), AT_ONCE as u32 + 1);
        }
    }
    let moves = ctx.scale(300, 20, 0) as usize;
    with_both(ctx, |area| {
        for _ in 0..moves {
            assert_ids(area, u32::MAX);
        }
        joined_at_once::<AT_ONCE>(STACK, body, moves);
    });
}
