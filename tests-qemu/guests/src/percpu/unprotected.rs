//! The broken variant of the stress tests: the same sections, on threads that no kernel aborts. The sums must be wrong,
//! which shows what they are worth.

use core::sync::atomic::{
    AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use rseq_rt::percpu::inject::Steps;
use rseq_rt::percpu::{Commit, CpuId, Operation};
use rseq_rt::{Area, Errno as Raw, Kernel, Process, abi::Rseq};

use super::slot::{self, WORD, slots};
use crate::harness::{Ctx, Test, passed};
use crate::hooks::common::Hooks as _;
use crate::linux::release;
use crate::sys::sched;
use crate::{hooked, other_calls_of_linux, thread};

pub const TESTS: &[Test] = &[Test::new(
    "percpu/sums-without-a-kernel-are-wrong",
    unprotected,
)];

/// Registration pretends to succeed: each thread is on CPU 0 for ever, and nothing is aborted.
pub(super) struct Pretending;

// SAFETY: (1) nothing writes to an area; (2, 3) the real kernel's.
unsafe impl Kernel for Pretending {
    unsafe fn rseq(&self, area: *const Rseq, _: u32, flags: u32, _: u32) -> Result<(), Raw> {
        // SAFETY: (1) the caller's area.
        let area = unsafe { &*area };
        area.cpu_id
            .store(if flags & 1 == 0 { 0 } else { -1 }, Relaxed);
        Ok(())
    }

    fn release(&self) -> Result<[u8; 65], Raw> {
        // A trusted version.
        Ok(release(b"6.18.0"))
    }

    other_calls_of_linux!();
}

static PROCESS: Process<Pretending> = Process::with_kernel(Pretending);
static DONE: AtomicUsize = AtomicUsize::new(0);
static STEPS: Steps = Steps::new();
/// The last step, after the comparison and before the store.
const LAST: u32 = if cfg!(target_arch = "x86_64") { 5 } else { 6 };
const ROUNDS: usize = 100;

/// One addition, by a separate thread.
fn add(steps: &Steps) {
    let area = Area::new();
    let _scope = PROCESS.scope(&area).unwrap();
    let current = PROCESS.current_of::<CpuId>(&area).unwrap();
    let slots = slots::<CpuId>().unwrap();
    let word = slots.get(0).unwrap().word.load(SeqCst);
    let op = Operation::CompareAndStore {
        word: WORD,
        expect: word,
        new: word + 1,
    };
    // SAFETY: (1, 2) a sum, which nothing relies on.
    if unsafe { current.stopping(slots, op, Commit::Release, steps) }.is_ok() {
        DONE.fetch_add(1, SeqCst);
    }
}

fn unprotected(ctx: &Ctx<'_>) {
    assert_eq!(PROCESS.init(hooked::config(ctx.env)), Ok(None));
    PROCESS.allow_sections();
    slot::clear();
    for _ in 0..ROUNDS {
        STEPS.here.store(0, SeqCst);
        STEPS.released.store(0, SeqCst);
        STEPS.turns.store(u32::MAX, SeqCst);
        STEPS.left.store(LAST, SeqCst);
        let stopped = thread::start(64 * 1024, (), |()| add(&STEPS)).unwrap();
        sched::wait_until(|| STEPS.here.load(SeqCst) != 0);
        // Whole, while the other one stands before its store.
        let other = thread::start(64 * 1024, (), |()| add(&Steps::new())).unwrap();
        other.join().unwrap();
        STEPS.released.store(1, SeqCst);
        stopped.join().unwrap();
    }
    let sum = slot::all()
        .map(|slot| slot.word.load(SeqCst))
        .sum::<usize>();
    let done = DONE.load(SeqCst);
    assert_eq!(done, 2 * ROUNDS, "additions that say that they were made");
    assert_eq!(sum, ROUNDS, "of each two, one is lost without a kernel");
    passed!("{} of {done} lost", done - sum);
}
