//! A kernel whose version is known not to abort sections: on aarch64 the crate believes it.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use rseq_rt::percpu::inject::Steps;
use rseq_rt::percpu::{Commit, CpuId, Operation, SectionSupport};
use rseq_rt::structures::{Counter, CounterSlot};
use rseq_rt::{Area, Errno as Raw, Kernel, Process};

use super::slot::{self, WORD, slots};
use crate::harness::{Ctx, Needs, Test, passed};
use crate::hooks::common::Hooks as _;
use crate::linux::release;
use crate::sys::sched::{self, CpuSet};
use crate::{calls_of_linux, hooked, other_calls_of_linux, thread, witness};

pub const TESTS: &[Test] = &[
    Test::new("percpu/known-bad-kernel", known_bad),
    Test::new("percpu/known-bad-kernel-without-the-guard", without_guard).needs(Needs::RSEQ),
];

/// The real kernel, with another version.
pub(super) struct Renamed(pub(super) &'static [u8]);

// SAFETY: (1, 2, 3) the real kernel's.
unsafe impl Kernel for Renamed {
    calls_of_linux!(rseq);

    fn release(&self) -> Result<[u8; 65], Raw> {
        Ok(release(self.0))
    }

    other_calls_of_linux!();
}

static PROCESS: Process<Renamed> = Process::with_kernel(Renamed(b"7.0.5-arm64"));
static AREA: Area = Area::new();
static PARTS: [CounterSlot; 64] = [const { CounterSlot::new() }; 64];
static COUNTER: Counter<'static> = Counter::new(&PARTS);

fn known_bad(ctx: &Ctx<'_>) {
    PROCESS.init(hooked::config(ctx.env)).unwrap();
    let _ = PROCESS.create(&AREA).unwrap();
    let bad = cfg!(target_arch = "aarch64");
    let expected = if bad {
        SectionSupport::KnownBad
    } else {
        SectionSupport::Allowed
    };
    assert_eq!(PROCESS.allow_sections(), expected);
    assert_eq!(PROCESS.section_support(), expected);
    let here = PROCESS.current_of::<CpuId>(&AREA);
    COUNTER.add(here, 3);
    let runs = !bad && ctx.facts.rseq.is_ok();
    assert_eq!(here.is_some(), runs, "who may run sections");
    assert_eq!(COUNTER.sum(), 3);
    assert_eq!(COUNTER.overflowed(), if runs { 0 } else { 3 });
    // The ids are right nevertheless.
    PROCESS.current_cpu(&AREA).unwrap();
    if bad {
        passed!("everything by the overflow slot");
    } else {
        passed!("trusted, as on each of this CPU");
    }
}

/// This version has no known fault: the guard lets sections run.
static TRUSTED: Process<Renamed> = Process::with_kernel(Renamed(b"7.2.0"));
static DONE: AtomicUsize = AtomicUsize::new(0);
const THREADS: usize = 3;
const ADDS: usize = 400;

/// Additions in sections so long that they are often preempted, on one CPU with the other threads.
fn adds(cpu: &u32) {
    let area = Area::new();
    sched::allow(0, &CpuSet::one(*cpu)).unwrap();
    let _scope = TRUSTED.scope(&area).unwrap();
    let current = TRUSTED.current_of::<CpuId>(&area).unwrap();
    let slots = slots().unwrap();
    let steps = Steps::default();
    for _ in 0..ADDS {
        let word = slots.get(current.id()).unwrap().word.load(Relaxed);
        // The last step, after the comparison and before the store.
        let last = if cfg!(target_arch = "x86_64") { 5 } else { 6 };
        steps.left.store(last, Relaxed);
        steps.turns.store(20_000, Relaxed);
        let op = Operation::CompareAndStore {
            word: WORD,
            expect: word,
            new: word + 1,
        };
        // SAFETY: stopping (1, 2) a sum, which nothing relies on.
        if unsafe { current.stopping(slots, op, Commit::Relaxed, &steps) }.is_ok() {
            DONE.fetch_add(1, Relaxed);
        }
    }
}

/// The reason for the guard: without it, a kernel that does not abort sections loses additions. Others lose none.
fn without_guard(ctx: &Ctx<'_>) {
    super::init(ctx);
    let bad = hooked::RSEQ.section_support() == SectionSupport::KnownBad;
    assert_eq!(TRUSTED.init(hooked::config(ctx.env)), Ok(None));
    assert_eq!(
        TRUSTED.allow_sections(),
        SectionSupport::Allowed,
        "the guard"
    );
    slot::clear();
    let cpu = witness::cpus().iter().next().unwrap();
    let threads: [_; THREADS] = core::array::from_fn(|_| thread::start(64 * 1024, cpu, adds));
    for thread in threads {
        thread.unwrap().join().unwrap();
    }
    let kept: usize = slot::all().map(|slot| slot.word.load(Relaxed)).sum();
    let done = DONE.load(Relaxed);
    assert_ne!(done, 0, "nothing was added");
    assert_eq!(kept != done, bad, "{kept} of {done} additions kept");
    passed!("{kept} of {done} additions kept");
}
