//! Every operation, by CPU number and by concurrency id, with both commits, disturbed at each step.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicPtr, AtomicU32};
use rseq_rt::Thread;
use rseq_rt::percpu::{Commit, CpuId, Current, Index, MmCid};

use super::rig::{self, ABORTS, ACTIONS, Action, HITS, WORKER, WORKERS};
use super::stops;
use super::work::{self, Job, Kind, WITHOUT};
use crate::harness::{Ctx, Scale, Test, passed, skip};
use crate::hooked::{self, Hooked, RSEQ};
use crate::sys::sched::{self, CpuSet};
use crate::sys::time::{self, Span};
use crate::witness;

#[rustfmt::skip] // a table
pub const TESTS: &[Test] = &[
    Test::new("percpu/stress-add", |ctx| stress(ctx, Kind::Add)),
    Test::new("percpu/stress-add-through", |ctx| stress(ctx, Kind::AddThrough)),
    Test::new("percpu/stress-compare", |ctx| stress(ctx, Kind::CompareAndStore)),
    Test::new("percpu/stress-compare-two", |ctx| stress(ctx, Kind::CompareTwoAndStore)),
    Test::new("percpu/stress-array", |ctx| stress(ctx, Kind::CompareStoreAndStore)),
    Test::new("percpu/stress-list", |ctx| stress(ctx, Kind::LinkAndPop)),
    Test::new("percpu/stress-copy", |ctx| stress(ctx, Kind::CompareCopyAndStore)),
    Test::new("percpu/stress-own-slab", |ctx| stress(ctx, Kind::OwnSlab)),
    Test::new("percpu/stress-own-events", |ctx| stress(ctx, Kind::OwnEvents)),
];

const STACK: usize = 64 * 1024;

struct Setting {
    kind: Kind,
    by_mm_cid: bool,
    commit: Commit,
    action: Action,
    percent: u32,
    /// Of each worker.
    pieces: usize,
}

static SETTING: AtomicPtr<Setting> = AtomicPtr::new(core::ptr::null_mut());
static ENDED: AtomicU32 = AtomicU32::new(0);
static WITH: AtomicU32 = AtomicU32::new(0);

fn worker<I: Index>(thread: &Thread<'_>, hooked: &Hooked) {
    let me = hooked.argument;
    let worker = &WORKER[me];
    // SAFETY: (1) no loan, no green threads.
    let current: Option<Current<'_, I>> = unsafe { thread.current() };
    WITH.fetch_add(u32::from(current.is_some()), Relaxed);
    let seed = (me as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // SAFETY: on the stack of `run`, which joins its workers.
    let setting = unsafe { &*SETTING.load(Acquire) };
    worker.enter(seed ^ u64::from(setting.percent));
    for count in 0..setting.pieces {
        let disturbed = worker.random() as u32 % 100 < setting.percent;
        let job = Job {
            worker,
            me,
            count,
            current,
            commit: setting.commit,
            disturb: disturbed.then_some(setting.action),
        };
        job.work(setting.kind);
    }
    worker.leave();
    ENDED.fetch_add(1, Relaxed);
}

/// Six times the CPUs, all at it, and the sums are exact.
fn run(setting: &Setting, workers: usize) -> u32 {
    work::clear();
    SETTING.store(core::ptr::from_ref(setting).cast_mut(), Release);
    ENDED.store(0, Relaxed);
    WITH.store(0, Relaxed);
    let body = if setting.by_mm_cid {
        worker::<MmCid>
    } else {
        worker::<CpuId>
    };
    let mut threads = [const { None }; WORKERS];
    for (me, thread) in threads[..workers].iter_mut().enumerate() {
        *thread = Some(hooked::start_joinable(STACK, body, me).unwrap());
    }
    if matches!(setting.action, Action::Migrate | Action::Any) {
        move_them(workers);
    }
    for thread in threads.into_iter().flatten() {
        thread.join().unwrap();
    }
    work::judge(setting.kind);
    WITH.load(Relaxed)
}

/// Moves all threads between CPUs until they have ended.
fn move_them(workers: usize) {
    let cpus = witness::cpus();
    for cpu in core::iter::repeat(()).flat_map(|()| cpus.iter()) {
        if ENDED.load(Relaxed) as usize >= workers {
            return;
        }
        for worker in &WORKER {
            let tid = worker.tid.load(Relaxed);
            if tid != 0 {
                let _ = sched::allow(tid, &CpuSet::one(cpu));
                let _ = sched::allow(tid, &cpus);
            }
        }
        let _ = time::sleep(Span::micros(100));
    }
}

pub(crate) fn stress(ctx: &Ctx<'_>, kind: Kind) {
    super::init(ctx);
    rig::handler();
    rig::SOON.store(ctx.scale(5, 100, 100), Relaxed);
    rig::LONG.store(ctx.scale(10_000_000, 200_000, 200_000) as u32, Relaxed);
    let pieces_of_each = ctx.scale(150, 12, 12) as usize;
    let workers = (ctx.facts.cpus as usize * 6).min(WORKERS);
    let native = ctx.scale == Scale::Native;
    let actions: &[Action] = if native { &ACTIONS } else { &[Action::Any] };
    let (mut cells, mut pieces, mut without) = (0u64, 0u64, 0u64);
    for by_mm_cid in [false, true] {
        // Without sections this would only be arithmetic; the structures run there, and have their own stress tests.
        let live = expected(ctx, by_mm_cid);
        if !live {
            assert!(refused(by_mm_cid), "a thread may run sections");
            continue;
        }
        for commit in [Commit::Relaxed, Commit::Release] {
            for &action in actions {
                for percent in [25, 50, 100] {
                    let setting = Setting {
                        kind,
                        by_mm_cid,
                        commit,
                        action,
                        percent,
                        pieces: pieces_of_each,
                    };
                    cells += 1;
                    // On a loaded machine a small cell may be disturbed only between its sections: it is repeated.
                    let mut aborted = 0;
                    for _ in 0..5 {
                        let before = ABORTS.load(Relaxed);
                        let with = run(&setting, workers);
                        pieces += (workers * pieces_of_each) as u64;
                        without += WITHOUT.load(Relaxed);
                        assert_eq!(with as usize, workers, "threads that may run sections");
                        aborted = ABORTS.load(Relaxed) - before;
                        if aborted != 0 {
                            break;
                        }
                    }
                    assert_ne!(aborted, 0, "no section was aborted, cell {cells}");
                }
            }
        }
    }
    if cells == 0 {
        skip!("no thread may run sections here");
    }
    // One try of each piece is disturbed: more than a few that never succeeded would hide the others.
    assert!(
        without * 20 <= pieces,
        "{without} of {pieces} pieces without a slot"
    );
    let (stops, missed) = stops::missed();
    assert!(
        stops != 0 && missed == 0,
        "{missed} of {stops} steps never stopped at"
    );
    let [delays, signals, yields, sleeps, moves] = rig::taken();
    let all = delays.min(signals).min(yields).min(sleeps) != 0;
    assert!(
        all && (moves != 0 || witness::cpus().count() == 1),
        "not each action: {delays} delays, {signals} signals, {yields} yields, {sleeps} sleeps, \
         {moves} migrations"
    );
    let (aborts, hits) = (ABORTS.load(Relaxed), HITS.load(Relaxed));
    passed!(
        "{cells} cells, {workers} threads, {pieces} pieces, {aborts} aborts, {hits} by a signal at \
         one of {stops} steps, each of them seen, and by all: {delays} delays, {signals} signals, \
         {yields} yields, {sleeps} sleeps, {moves} migrations; {without} without a slot"
    );
}

/// A thread that may not run sections.
fn refused(by_mm_cid: bool) -> bool {
    fn body<I: Index>(thread: &Thread<'_>, _: &Hooked) {
        // SAFETY: (1) no loan, no green threads.
        let current: Option<Current<'_, I>> = unsafe { thread.current() };
        WITH.fetch_add(u32::from(current.is_some()), Relaxed);
    }
    WITH.store(0, Relaxed);
    let body = if by_mm_cid {
        body::<MmCid>
    } else {
        body::<CpuId>
    };
    let thread = hooked::start_joinable(STACK, body, 0).unwrap();
    thread.join().unwrap();
    WITH.load(Relaxed) == 0
}

/// Whether threads run sections here.
fn expected(ctx: &Ctx<'_>, by_mm_cid: bool) -> bool {
    ctx.facts.rseq.is_ok()
        && RSEQ.section_support() == rseq_rt::percpu::SectionSupport::Allowed
        && (!by_mm_cid || ctx.facts.feature_size >= 28)
}
