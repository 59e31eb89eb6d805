//! What disturbs the operations: at each step of a section, on purpose, and as often as asked for.
//!
//! A worker that is to be disturbed arms its timer and runs the section that can stop. The section comes to
//! its step and waits there. The signal finds it there, does what the cell says, and lets it go on; by then the
//! kernel has sent it to its abort handler.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use linux_raw_sys::general::{SIGUSR1, siginfo_t};
use rseq_rt::percpu::inject::{Op, Steps};
use rseq_rt::percpu::{Commit, CpuId, Current, Index, Miss, RESTARTS};

use super::slot::{Slot, slots};
use crate::errno::Errno;
use crate::hooked;
use crate::signals;
use crate::sys::process;
use crate::sys::sched::{self, CpuSet};
use crate::sys::time::{self, Span};

/// What happens at the step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The section takes its time, and the machine is full.
    Delay,
    /// A signal, whose handler does nothing.
    Signal,
    /// The handler gives up the CPU.
    Yield,
    /// The handler sleeps.
    Sleep,
    /// The handler moves to another CPU, and somebody else moves the thread too.
    Migrate,
    /// Any of them.
    Any,
}

/// All but `Any`.
pub const ACTIONS: [Action; 5] = [
    Action::Delay,
    Action::Signal,
    Action::Yield,
    Action::Sleep,
    Action::Migrate,
];

/// At most so many threads: six times the CPUs, on a machine of ten.
pub const WORKERS: usize = 64;

/// Turns of a stop that waits for the signal: a bound, so that a lost one costs a moment and not the test.
const WAIT: u32 = 200_000;
const HIT: i32 = SIGUSR1 as i32;

/// One worker's side of it.
pub struct Worker {
    steps: Steps,
    armed: AtomicU32,
    action: AtomicU32,
    timer: AtomicU32,
    soon: AtomicU64,
    random: AtomicU64,
    /// Its thread, for those who move it; 0 before and after.
    pub tid: AtomicU32,
}

/// Every worker.
pub static WORKER: [Worker; WORKERS] = [const {
    Worker {
        steps: Steps::new(),
        armed: AtomicU32::new(0),
        action: AtomicU32::new(0),
        timer: AtomicU32::new(0),
        soon: AtomicU64::new(0),
        random: AtomicU64::new(0),
        tid: AtomicU32::new(0),
    }
}; WORKERS];

/// Sections that were aborted.
pub static ABORTS: AtomicU64 = AtomicU64::new(0);
/// Stops that a signal found a section at.
pub static HITS: AtomicU64 = AtomicU64::new(0);
/// Microseconds until the signal.
pub static SOON: AtomicU64 = AtomicU64::new(5);
/// Turns of a long delay.
pub static LONG: AtomicU32 = AtomicU32::new(WAIT);

/// The stops of one operation by one kind of index.
struct Stops {
    /// How many it has; 0 until one of them ran through.
    count: AtomicU32,
    /// The next one comes in turn, so that none is left out.
    next: AtomicU32,
    /// Those that a section has stood at, one bit each.
    reached: AtomicU64,
}

/// By index, and by operation in the order of [`Op`].
static STOPS: [[Stops; 8]; 2] = [const {
    [const {
        Stops {
            count: AtomicU32::new(0),
            next: AtomicU32::new(0),
            reached: AtomicU64::new(0),
        }
    }; 8]
}; 2];

fn stops<I: Index>(op: &Op) -> &'static Stops {
    let [by_cpu, by_mm_cid] = &STOPS;
    let [a, b, c, d, e, f, g, h] = if I::OFFSET == CpuId::OFFSET {
        by_cpu
    } else {
        by_mm_cid
    };
    match op {
        Op::Add(..) => a,
        Op::AddThrough(..) => b,
        Op::CompareAndStore(..) => c,
        Op::CompareTwoAndStore(..) => d,
        Op::CompareStoreAndStore(..) => e,
        Op::CompareLinkAndStore(..) => f,
        Op::Pop(..) => g,
        Op::CompareCopyAndStore(..) => h,
    }
}

/// Of all operations that ran: how many stops they have, and how many of those no section has stood at.
pub fn stops_missed() -> (u32, u32) {
    let mut all = (0, 0);
    for stops in STOPS.as_flattened() {
        let count = stops.count.load(Relaxed);
        all.0 += count;
        all.1 += count - stops.reached.load(Relaxed).count_ones().min(count);
    }
    all
}

/// Installs the handler.
pub fn handler() -> Result<(), Errno> {
    unsafe extern "C" fn hit(_: i32, _: *mut siginfo_t, _: *mut u8) {
        if let Some(hooked) = hooked::here()
            && let Some(worker) = WORKER.get(hooked.argument)
        {
            worker.hit();
        }
    }
    // SAFETY: handle (1) atomics and system calls alone.
    unsafe { signals::handle(HIT, hit, 0) }
}

impl Worker {
    /// On its thread, first.
    pub fn enter(&self, seed: u64) -> Result<(), Errno> {
        let tid = process::gettid();
        self.timer
            .store(time::timer_create(tid, HIT)? as u32, Relaxed);
        self.random.store(seed | 1, Relaxed);
        self.tid.store(tid, Relaxed);
        Ok(())
    }

    /// On its thread, last.
    pub fn leave(&self) {
        self.tid.store(0, Relaxed);
        let _ = time::timer_delete(self.timer.load(Relaxed) as i32);
    }

    /// xorshift64.
    pub fn random(&self) -> u64 {
        let mut x = self.random.load(Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.store(x, Relaxed);
        x
    }

    fn again(&self) {
        // Twice as long each time, or a slow machine would do nothing but take signals.
        let span = self.soon.load(Relaxed);
        self.soon.store(span.saturating_mul(2), Relaxed);
        let _ = time::timer_once(self.timer.load(Relaxed) as i32, Span::micros(span));
    }

    fn hit(&self) {
        if self.armed.load(Relaxed) == 0 {
            return;
        }
        // Not there yet.
        if self.steps.here.load(Relaxed) == 0 {
            return self.again();
        }
        HITS.fetch_add(1, Relaxed);
        match self.action.load(Relaxed) {
            2 => sched::relax(),
            3 => _ = time::sleep(Span(1)),
            4 => {
                let cpus = crate::witness::cpus();
                let nth = self.random() as usize % cpus.count().max(1) as usize;
                if let Some(cpu) = cpus.iter().nth(nth) {
                    let _ = sched::allow(0, &CpuSet::one(cpu));
                    let _ = sched::allow(0, &cpus);
                }
            }
            _ => {}
        }
        self.steps.turns.store(0, Relaxed);
    }

    fn arm(&self, action: Action, step: u32) {
        let action = match action {
            Action::Any => self.random() as u32 % 5,
            action => action as u32,
        };
        self.action.store(action, Relaxed);
        self.steps.here.store(0, Relaxed);
        self.steps.left.store(step, Relaxed);
        let turns = if action == Action::Delay as u32 {
            // Most are short, and some so long that the time slice may end in them.
            let long = self.random().is_multiple_of(64);
            self.random() as u32 % if long { LONG.load(Relaxed) } else { 2_000 }
        } else {
            WAIT
        };
        self.steps.turns.store(turns, Relaxed);
        if action != Action::Delay as u32 {
            self.soon.store(SOON.load(Relaxed), Relaxed);
            self.armed.store(1, Relaxed);
            self.again();
        }
    }

    /// One section that stops, at a step that it has. The first one of its kind counts the steps.
    fn stop<I: Index>(
        &self,
        action: Action,
        op: &Op,
        section: impl FnOnce() -> Result<*mut u8, Miss>,
    ) -> Result<*mut u8, Miss> {
        let stops = stops::<I>(op);
        let count = stops.count.load(Relaxed);
        if count == 0 {
            // Counted down by each step, and never to 0.
            self.steps.left.store(u32::MAX, Relaxed);
            let result = section();
            if result.is_ok() {
                let count = u32::MAX - self.steps.left.load(Relaxed);
                stops.count.store(count, Relaxed);
            }
            return result;
        }
        let nth = stops.next.fetch_add(1, Relaxed) % count;
        self.arm(action, nth + 1);
        let result = section();
        self.armed.store(0, Relaxed);
        if self.steps.here.load(Relaxed) != 0 {
            stops.reached.fetch_or(1 << nth, Relaxed);
        }
        result
    }

    /// One operation to its end: disturbed at first if `disturb`, then tried up to the bound.
    ///
    /// `ask` looks and says what to do, anew for each try. `None`: it missed, and the caller goes without a slot.
    pub fn run<I: Index>(
        &self,
        current: Option<Current<'_, I>>,
        commit: Commit,
        disturb: Option<Action>,
        mut ask: impl FnMut(&Slot) -> Option<Op>,
    ) -> Result<*mut u8, Miss> {
        let (Some(current), Some(slots)) = (current, slots::<I>()) else {
            return Err(Miss::OutOfRange);
        };
        let mut disturb = disturb;
        let mut aborts = 0;
        loop {
            let Some(slot) = slots.get(current.id()) else {
                return Err(Miss::OutOfRange);
            };
            // Full, or empty.
            let Some(op) = ask(slot) else {
                return Err(Miss::Differs);
            };
            let result = match disturb.take() {
                Some(action) => {
                    // SAFETY: `ask` (1) keeps the conditions: its words are those of `Slot`.
                    self.stop::<I>(action, &op, || unsafe {
                        current.stopping(slots, op, commit, &self.steps)
                    })
                }
                // SAFETY: as above.
                None => unsafe { shipped(current, op, commit) },
            };
            match result {
                Err(Miss::Aborted) if aborts < RESTARTS => {
                    ABORTS.fetch_add(1, Relaxed);
                    aborts += 1;
                }
                // A pop's answer; all others look again.
                Err(Miss::Differs) if !matches!(op, Op::Pop(..)) => {}
                end => return end,
            }
        }
    }
}

/// One try of the sections that are shipped.
///
/// # Safety
/// 1. The conditions of the operation.
pub unsafe fn shipped<I: Index>(
    current: Current<'_, I>,
    op: Op,
    commit: Commit,
) -> Result<*mut u8, Miss> {
    let Some(slots) = slots::<I>() else {
        return Err(Miss::OutOfRange);
    };
    let current = current.restarts(0);
    // SAFETY: (1).
    let done = unsafe {
        match op {
            Op::Add(word, value) => current.add(slots, word, value, commit),
            Op::AddThrough(word, offset, value) => {
                current.add_through(slots, word, offset, value, commit)
            }
            Op::CompareAndStore(word, expect, new) => {
                current.compare_and_store(slots, word, expect, new, commit)
            }
            Op::CompareTwoAndStore(word, expect, second, expect_second, new) => current
                .compare_two_and_store(slots, word, expect, second, expect_second, new, commit),
            Op::CompareStoreAndStore(word, expect, second, value, new) => {
                current.compare_store_and_store(slots, word, expect, second, value, new, commit)
            }
            Op::CompareLinkAndStore(word, expect, link, new) => {
                current.compare_link_and_store(slots, word, expect, link, new, commit)
            }
            Op::Pop(word, empty, link) => return current.pop(slots, word, empty, link, commit),
            Op::CompareCopyAndStore(word, expect, offset, source, length, new) => current
                .compare_copy_and_store(slots, word, expect, offset, source, length, new, commit),
        }
    };
    done.map(|()| core::ptr::null_mut())
}
