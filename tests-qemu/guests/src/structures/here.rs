//! A crowd's threads as the structures see them: aborts are counted, and must occur. A preemption or a signal rarely
//! hits the few instructions of a section. So each thread sometimes stops in the middle of one, where the next signal
//! of the storm finds it. All other operations use the shipped sections.

use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU32, AtomicUsize};

use rseq_rt::percpu::inject::Steps;
use rseq_rt::percpu::{Commit, CpuId, Current, Index, Miss, Operation, SectionSupport, Slots};
use rseq_rt::structures::ThreadSections;

use super::crowd::{self, ALIVE};
use crate::harness::Ctx;
use crate::hooked::RSEQ;

/// One in so many operations of a thread stops. Odd, so that pushes and pops alternate.
const EVERY: u32 = 17;
/// Maximum number of stops, two at each step: a stop lasts until the next signal.
const MOST: u32 = 2 * STEPS;
/// Steps that each section has; a later one does not stop it.
const STEPS: u32 = 4;
/// Bound of a stop, so that a lost signal costs a moment rather than the test.
const TURNS: u32 = 1 << 20;

/// The stops of successive threads in one place.
struct Stops {
    steps: Steps,
    /// Operations so far, except those of handlers.
    operations: AtomicU32,
    /// Set while a handler runs, which is the signal that a stop would wait for.
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
/// Operations whose shipped section was aborted up to the bound.
static SHIPPED: AtomicUsize = AtomicUsize::new(0);

/// The calling thread; its number in the crowd determines its kind.
pub struct Here<I: Index> {
    current: Current<'static, I>,
    stops: Option<&'static Stops>,
    /// Takes the overflow slot after one abort: every fourth thread.
    gives_up: bool,
}

impl<I: Index> Copy for Here<I> {}

impl<I: Index> Clone for Here<I> {
    fn clone(&self) -> Self {
        *self
    }
}

/// The calling thread, whose place is `place` if it belongs to the crowd; async-signal-safe.
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

/// Resets the place for a new thread.
pub fn begin(place: usize) {
    STOPS[place].operations.store(0, Relaxed);
}

/// Runs `handler` on the thread in the place, without stops in its sections.
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

/// After the test: where sections may run, some must have been aborted. Returns how many at a stop and without one.
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
    /// The steps, if the thread's next operation stops.
    fn arm(&self) -> Option<&Steps> {
        // Accessed only by its own thread.
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

// SAFETY: ThreadSections (1) that of `Current`, sometimes with a stop.
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
