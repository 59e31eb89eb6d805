//! The ids themselves, under both lengths: right after each move, and as small as the kernel promises.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use rseq_rt::abi::{FEATURE_SIZE_MM_CID, FEATURE_SIZE_NODE_ID};
use rseq_rt::{Area, Config, Thread};

use super::v2::begin;
use crate::harness::{Ctx, Failed, Needs, PASSED, Test, Verdict, failed, forked};
use crate::hooked::{self, Hooked, RSEQ};
use crate::sys::process::{Status, exit_group};
use crate::sys::sched::{self, CpuSet};
use crate::{check, skip, text, witness};

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("v2/ids-after-each-move", after_each_move).needs(Needs::RSEQ),
    Test::new("v2/mm-cid-of-two-at-once", distinct).needs(Needs::RSEQ.cpus(2)),
];

const STACK: usize = 32 * 1024;

/// Runs `body` with each length in a process of its own.
fn with_both(ctx: &Ctx<'_>, body: impl Fn(&'static Area) -> Result<(), Failed>) -> Verdict {
    let config = hooked::config(ctx.env);
    for config in [config, config.legacy_length()] {
        let run = |config: Config| body(begin(config)?);
        let status = forked(|| exit_group(run(config).is_err().into()))?;
        check!(
            status == Status::Exited(0),
            "length ",
            config.length(),
            ": ",
            status
        );
    }
    PASSED
}

/// On each CPU: all that the feature size calls valid. `threads` may be alive at most.
fn right_ids(area: &Area, cpus: CpuSet, threads: u32) -> Result<(), Failed> {
    for cpu in cpus.iter() {
        sched::allow(0, &CpuSet::one(cpu))?;
        let (_, node) = sched::getcpu()?;
        let ids = witness::rseq_of(area);
        let start = ids.cpu_id_start.load(Relaxed);
        check!(RSEQ.current_cpu(area) == Ok(cpu), "cpu_id on ", cpu);
        check!(start == cpu, "cpu_id_start on ", cpu, " is ", start);
        check!(RSEQ.current_node(area) == Ok(node), "node on ", cpu);
        if RSEQ.feature_size() >= FEATURE_SIZE_NODE_ID {
            let field = ids.node_id.load(Relaxed);
            check!(field == node, "node_id on ", cpu, " is ", field);
        }
        let cid = RSEQ.current_mm_cid(area);
        let has = RSEQ.feature_size() >= FEATURE_SIZE_MM_CID;
        check!(
            cid.is_some() == has,
            "an mm_cid that is not, or none that is"
        );
        let cid = cid.unwrap_or(0);
        let bound = threads.min(cpus.count());
        check!(
            cid < bound,
            "mm_cid ",
            cid,
            " with ",
            threads,
            " threads on ",
            cpus.count()
        );
    }
    sched::allow(0, &cpus)?;
    Ok(())
}

fn after_each_move(ctx: &Ctx<'_>) -> Verdict {
    const AT_ONCE: usize = 5;
    fn body(thread: &Thread<'_>, hooked: &Hooked) {
        for _ in 0..hooked.argument {
            // Those here and the main thread, which waits.
            if right_ids(thread.area(), witness::cpus(), AT_ONCE as u32 + 1).is_err() {
                return;
            }
        }
    }
    let moves = ctx.scale(300, 20, 0) as usize;
    with_both(ctx, |area| {
        for _ in 0..moves {
            right_ids(area, witness::cpus(), u32::MAX)?;
        }
        let threads: [_; AT_ONCE] =
            core::array::from_fn(|_| hooked::start_joinable(STACK, body, moves));
        for thread in threads {
            check!(thread?.join().is_ok(), "join");
        }
        Ok(())
    })
}

/// Two threads that run at the same time have two mm_cids.
fn distinct(ctx: &Ctx<'_>) -> Verdict {
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
        let Some(cpu) = witness::cpus().iter().nth(hooked.argument) else {
            let _ = failed(text!("no CPU of its own"));
            return;
        };
        let _ = sched::allow(0, &CpuSet::one(cpu));
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
        return skip!("this kernel has no mm_cid");
    }
    ROUNDS.store(ctx.scale(20_000, 2_000, 0) as u32, Relaxed);
    with_both(ctx, |_| {
        let threads: [_; 2] = core::array::from_fn(|me| hooked::start_joinable(STACK, body, me));
        for thread in threads {
            check!(thread?.join().is_ok(), "join");
        }
        let longest = LONGEST.load(Relaxed);
        check!(
            longest < RUN,
            longest,
            " exchanges in a row with one mm_cid"
        );
        Ok(())
    })
}
