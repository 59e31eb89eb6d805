//! The ids themselves, under both lengths: right after each move, and as small as the kernel promises.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use rseq_rt::abi::{FEATURE_SIZE_MM_CID, FEATURE_SIZE_NODE_ID};
use rseq_rt::{Area, Thread};

use super::{STACK, begin};
use crate::harness::{Ctx, must_pass, skip};
use crate::hooked::{self, Hooked, RSEQ};
use crate::hooks::common::joined_at_once;
use crate::sys::sched::{self, CpuSet};
use crate::witness;

/// Runs `body` with each length in a process of its own.
fn with_both(ctx: &Ctx<'_>, body: impl Fn(&'static Area)) {
    let config = hooked::config(ctx.env);
    for config in [config, config.legacy_length()] {
        must_pass(|| body(begin(config)));
    }
}

/// On each CPU: all that the feature size calls valid. At most `threads` are alive.
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

/// Two threads that run at the same time have two mm_cids.
pub(super) fn distinct(ctx: &Ctx<'_>) {
    /// Whose turn it is to write: even, the first thread's; odd, the second one's.
    static TURN: AtomicU32 = AtomicU32::new(0);
    static CID: AtomicU32 = AtomicU32::new(0);
    static ROUNDS: AtomicU32 = AtomicU32::new(0);
    /// Exchanges in a row that showed the same number.
    static SAME: AtomicU32 = AtomicU32::new(0);
    static LONGEST: AtomicU32 = AtomicU32::new(0);
    // One exchange proves nothing: who is preempted in the middle of it may lend its number to the other. A whole
    // run of them is no preemption any more.
    const RUN: u32 = 200;
    fn body(thread: &Thread<'_>, hooked: &Hooked) {
        let me = hooked.argument as u32;
        let cpu = witness::cpus().iter().nth(hooked.argument).unwrap();
        sched::allow(0, &CpuSet::one(cpu)).unwrap();
        let cid = || RSEQ.current_mm_cid(thread.area()).unwrap_or(u32::MAX);
        for round in 0..ROUNDS.load(Relaxed) {
            let turn = 2 * round + me;
            while TURN.load(Acquire) != turn {
                core::hint::spin_loop();
            }
            if me == 0 {
                CID.store(cid(), Relaxed);
            } else if CID.load(Relaxed) == cid() {
                let same = SAME.fetch_add(1, Relaxed) + 1;
                LONGEST.fetch_max(same, Relaxed);
            } else {
                SAME.store(0, Relaxed);
            }
            TURN.store(turn + 1, Release);
        }
    }
    if ctx.facts.feature_size < FEATURE_SIZE_MM_CID as usize {
        skip!("this kernel has no mm_cid");
    }
    ROUNDS.store(ctx.scale(20_000, 2_000, 0) as u32, Relaxed);
    with_both(ctx, |_| {
        let start = |me| hooked::start_joinable(STACK, body, me).unwrap();
        let threads: [_; 2] = core::array::from_fn(start);
        for thread in threads {
            thread.join().unwrap();
        }
        let longest = LONGEST.load(Relaxed);
        assert!(
            longest < RUN,
            "{longest} exchanges in a row with one mm_cid"
        );
    });
}
