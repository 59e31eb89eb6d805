//! The threads of a crowd as the structures see them: their aborts are counted, and there are some.
//!
//! A preemption or a signal rarely comes in the few instructions of a section. So each thread stops now and then in the
//! middle of one, where the next signal of the storm finds it. All else it does by the sections that are shipped.

use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU32, AtomicUsize};

use rseq_rt::percpu::inject::Steps;
use rseq_rt::percpu::{Commit, CpuId, Current, Index, Miss, Operation, SectionSupport, Slots};
use rseq_rt::structures::ThreadSections;

use super::crowd::{self, ALIVE};
use crate::harness::Ctx;
use crate::hooked::RSEQ;

/// Each so many operations of a thread one stops. Odd, so that it is a push, and then a pop.
const EVERY: u32 = 17;
/// So often at most, at each step twice: a stop lasts until the next signal.
const MOST: u32 = 2 * STEPS;
/// Steps that each section has; a stop beyond the last one is none.
const STEPS: u32 = 4;
/// A bound, so that a signal that is lost costs a moment and not the test.
const TURNS: u32 = 1 << 20;

/// The stops of the threads of one place, one after the other.
struct Stops {
    steps: Steps,
    /// Operations so far, handlers' not counted.
    operations: AtomicU32,
    /// A handler runs: it is the signal that would be waited for.
    handling: AtomicU32,
}

static STOPS: [Stops; ALIVE] = [const {
    Stops {
        steps: Steps::new(),
        operations: AtomicU32::new(0),
        handling: AtomicU32::new(0),
    }
}; ALIVE];

/// Sections that were aborted at a stop.
static AT_A_STOP: AtomicUsize = AtomicUsize::new(0);
/// Operations whose shipped section was aborted as often as it may be.
static SHIPPED: AtomicUsize = AtomicUsize::new(0);

/// The calling thread; its number in the crowd makes its kind.
pub struct Here<I: Index> {
    current: Current<'static, I>,
    stops: Option<&'static Stops>,
    /// Aborted once, it takes the overflow slot: every fourth one.
    gives_up: bool,
}

impl<I: Index> Copy for Here<I> {}

impl<I: Index> Clone for Here<I> {
    fn clone(&self) -> Self {
        *self
    }
}

/// Of the calling thread, whose place is `place` if it is one of the crowd; async-signal-safe.
pub fn here<I: Index>(number: Option<usize>, place: Option<usize>) -> Option<Here<I>> {
    let current = crowd::current()?;
    let gives_up = number.is_some_and(|number| number % 4 == 2);
    Some(Here {
        current: if gives_up {
            current.restarts(0)
        } else {
            current
        },
        stops: place
            .map(|place| &STOPS[place])
            .filter(|stops| stops.handling.load(Relaxed) == 0),
        gives_up,
    })
}

/// A new thread is in the place.
pub fn begin(place: usize) {
    STOPS[place].operations.store(0, Relaxed);
}

/// Runs `handler` on the thread in the place: no section of it stops.
pub fn handle(place: Option<usize>, handler: impl FnOnce()) {
    let handling = place.map(|place| &STOPS[place].handling);
    if let Some(handling) = handling {
        handling.store(1, Relaxed);
    }
    handler();
    if let Some(handling) = handling {
        handling.store(0, Relaxed);
    }
}

/// When all is over: where sections may run, some were aborted. How many, at a stop and without one.
pub fn aborted<I: Index>(ctx: &Ctx<'_>) -> [usize; 2] {
    let aborted = [&AT_A_STOP, &SHIPPED].map(|count| count.load(Relaxed));
    let live = ctx.facts.rseq.is_ok()
        && RSEQ.section_support() == SectionSupport::Allowed
        && (I::OFFSET == CpuId::OFFSET || ctx.facts.feature_size >= I::FEATURE_SIZE as usize);
    let [at_a_stop, shipped] = aborted;
    assert!(
        (at_a_stop != 0) == live && (live || shipped == 0),
        "{at_a_stop} sections were aborted at a stop, {shipped} without"
    );
    aborted
}

impl Stops {
    /// The steps, if the next operation of their thread is to stop.
    fn arm(&self) -> Option<&Steps> {
        // Its own thread alone.
        let nth = self.operations.load(Relaxed);
        self.operations.store(nth.wrapping_add(1), Relaxed);
        let stop = nth / EVERY;
        if !nth.is_multiple_of(EVERY) || stop >= MOST {
            return None;
        }
        self.steps.turns.store(TURNS, Relaxed);
        self.steps.left.store(1 + stop / 2 % STEPS, Relaxed);
        Some(&self.steps)
    }
}

// SAFETY: ThreadSections (1) it is that of `Current`, sometimes with a stop.
unsafe impl<I: Index> ThreadSections<I> for Here<I> {
    fn index(self) -> Option<usize> {
        Some(self.current.id())
    }

    unsafe fn run<T: Sync>(
        self,
        slots: Slots<'_, I, T>,
        operation: Operation,
        commit: Commit,
    ) -> Result<*mut u8, Miss> {
        if let Some(steps) = self.stops.and_then(Stops::arm) {
            // SAFETY: (1).
            let result = unsafe {
                self.current
                    .stopping(slots, operation, Commit::Release, steps)
            };
            match result {
                Err(Miss::Aborted) => AT_A_STOP.fetch_add(1, Relaxed),
                end => return end,
            };
            if self.gives_up {
                return Err(Miss::Aborted);
            }
        }
        // SAFETY: (1).
        let result = unsafe { self.current.run(slots, operation, commit) };
        if matches!(result, Err(Miss::Aborted)) {
            SHIPPED.fetch_add(1, Relaxed);
        }
        result
    }
}
