//! A kernel that says it is one of those that do not abort sections: on aarch64 the crate believes it.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use rseq_rt::percpu::inject::Steps;
use rseq_rt::percpu::{Commit, CpuId, Current, Operation, Sections};
use rseq_rt::structures::{Counter, CounterSlot};
use rseq_rt::{Area, Errno as Raw, Kernel, Linux, Process, Trio, abi::Rseq};

use super::slot::{self, WORD, slots};
use crate::harness::{Ctx, Needs, Test, Verdict, failed};
use crate::linux::release;
use crate::sys::sched::{self, CpuSet};
use crate::{check, hooked, other_calls_of_linux, passed, text, thread, witness};

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("percpu/known-bad-kernel", known_bad),
    Test::new("percpu/known-bad-kernel-without-the-guard", without_guard).needs(Needs::RSEQ),
];

/// The real kernel, under another version.
pub(super) struct Renamed(pub(super) &'static [u8]);

// SAFETY: (1, 2, 3) the real kernel's.
unsafe impl Kernel for Renamed {
    unsafe fn rseq(
        &self,
        area: *const Rseq,
        length: u32,
        flags: u32,
        signature: u32,
    ) -> Result<(), Raw> {
        // SAFETY: (1) the caller's.
        unsafe { Linux.rseq(area, length, flags, signature) }
    }

    fn release(&self) -> Result<[u8; 65], Raw> {
        Ok(release(self.0))
    }

    fn libc_trio(&self) -> Option<Trio> {
        None
    }

    other_calls_of_linux!();
}

static PROCESS: Process<Renamed> = Process::with_kernel(Renamed(b"7.0.5-arm64"));
static AREA: Area = Area::new();
static PARTS: [CounterSlot; 64] = [const { CounterSlot::new() }; 64];
static COUNTER: Counter<'static> = Counter::new(&PARTS);

fn known_bad(ctx: &Ctx<'_>) -> Verdict {
    let inited = PROCESS.init(hooked::config(ctx.env));
    check!(inited.is_ok(), "init");
    // SAFETY: on_thread_create (1, 2, 3) the only thread's, static.
    let thread = unsafe { PROCESS.on_thread_create(&AREA) };
    check!(thread.is_ok(), "the create hook");
    let bad = cfg!(target_arch = "aarch64");
    let sections = PROCESS.allow_sections();
    let expected = if bad {
        Sections::KnownBad
    } else {
        Sections::Allowed
    };
    check!(
        sections == expected && PROCESS.sections() == expected,
        "what it says"
    );
    // SAFETY: Process::current (1) this thread's; (2) used for the next line alone.
    let here: Option<Current<'_, CpuId>> = unsafe { PROCESS.current(&AREA) };
    COUNTER.add(here, 3);
    let overflowed = COUNTER.overflowed();
    let runs = !bad && ctx.facts.rseq.is_ok();
    check!(here.is_some() == runs, "who may run sections");
    check!(
        COUNTER.sum() == 3 && overflowed == if runs { 0 } else { 3 },
        "by the overflow slot ",
        overflowed
    );
    // The ids are right there all the same.
    check!(PROCESS.current_cpu(&AREA).is_ok(), "the number of the CPU");
    passed!(if bad {
        "everything by the overflow slot"
    } else {
        "trusted, as on each of this CPU"
    })
}

/// Nothing is known to be wrong with this version: the guard lets sections run.
static TRUSTED: Process<Renamed> = Process::with_kernel(Renamed(b"7.2.0"));
static DONE: AtomicUsize = AtomicUsize::new(0);
static THREADS_ENDED: AtomicUsize = AtomicUsize::new(0);
const THREADS: usize = 3;
const ADDS: usize = 400;

/// Additions in sections so long that the scheduler often comes in the middle, on one CPU with the other threads.
fn adds(cpu: &u32) {
    let area = Area::new();
    let pinned = sched::allow(0, &CpuSet::one(*cpu));
    // SAFETY: scoped (1, 2, 3) this thread's, ended before the memory is.
    let created = unsafe { TRUSTED.scoped(&area) };
    // SAFETY: Process::current (1) this thread's; (2) not after this function.
    let current: Option<Current<'_, CpuId>> = unsafe { TRUSTED.current(&area) };
    let (Ok(_scope), Ok(()), Some(current), Some(slots)) = (created, pinned, current, slots())
    else {
        let _ = failed(text!("no thread that may run sections"));
        return;
    };
    let steps = Steps::default();
    for _ in 0..ADDS {
        let Some(slot) = slots.get(current.id()) else {
            return;
        };
        let word = slot.word.load(Relaxed);
        // The last step, behind the comparison and before the store.
        let last = if cfg!(target_arch = "x86_64") { 5 } else { 6 };
        steps.left.store(last, Relaxed);
        steps.turns.store(20_000, Relaxed);
        let op = Operation::CompareAndStore {
            word: WORD,
            expect: word,
            new: word + 1,
        };
        // SAFETY: stopping (1, 2) a sum, which is not relied upon.
        if unsafe { current.stopping(slots, op, Commit::Relaxed, &steps) }.is_ok() {
            DONE.fetch_add(1, Relaxed);
        }
    }
    THREADS_ENDED.fetch_add(1, Relaxed);
}

/// What the guard is for: past it, a kernel that does not abort sections loses additions. Where it does, none is lost.
fn without_guard(ctx: &Ctx<'_>) -> Verdict {
    super::init(ctx)?;
    let bad = hooked::RSEQ.sections() == Sections::KnownBad;
    let inited = TRUSTED.init(hooked::config(ctx.env));
    check!(inited == Ok(None), "init");
    check!(TRUSTED.allow_sections() == Sections::Allowed, "the guard");
    slot::clear();
    let cpu = witness::cpus().iter().next().unwrap_or(0);
    let threads: [_; THREADS] = core::array::from_fn(|_| thread::start(64 * 1024, cpu, adds));
    for thread in threads {
        thread?.join()?;
    }
    check!(
        THREADS_ENDED.load(Relaxed) == THREADS,
        "not every thread came to its end"
    );
    let kept: usize = slot::all().map(|slot| slot.word.load(Relaxed)).sum();
    let done = DONE.load(Relaxed);
    check!(done != 0, "nothing was added");
    check!((kept != done) == bad, kept, " of ", done, " additions kept");
    passed!(kept, " of ", done, " additions kept")
}
