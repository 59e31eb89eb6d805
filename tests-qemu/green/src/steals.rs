//! A thief against a carrier stopped at each step of a push or a pop, with and without the fence. The victim stops in a
//! section on one CPU, the main thread steals from that CPU's ring on another one, and then releases the section. With
//! the fence the section was aborted, and retries. The broken variant's fence reports success without effect: the
//! section commits over the thief's change, and a green thread is duplicated.

use alloc::boxed::Box;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use guests::harness::{Ctx, Needs, Test, passed, skip};
use guests::structures::drains::Lies;
use guests::structures::rounds::{Rounds, Told};
use guests::structures::slow::Slow;
use guests::sys::sched::{self, CpuSet};
use rseq_rt::Thread;
use rseq_rt::percpu::{CpuId, SectionSupport};
use rseq_rt::structures::{Fence, Membarrier};

use green::carrier::{self, Carrier, Exit, RSEQ, Schedule};
use green::green::make;
use green::queue::ring::{CPUS, Rings};

pub const TESTS: &[Test] = &[
    Test::new("steals/at-each-step-of-a-push", at_each_step::<PUSH>).needs(NEEDS),
    Test::new("steals/at-each-step-of-a-pop", at_each_step::<POP>).needs(NEEDS),
    Test::new("steals/without-the-fence-push", without::<PUSH>).needs(NEEDS),
    Test::new("steals/without-the-fence-pop", without::<POP>).needs(NEEDS),
];

const NEEDS: Needs = Needs::RSEQ.and(Needs::REAL_KERNEL).cpus(2);
/// More than either section has.
const STEPS: u32 = 14;
const PUSH: u32 = 0;
const POP: u32 = 1;

/// The state shared by the victim and the thief.
struct Subject<K: Membarrier, const OP: u32> {
    rings: Rings<K>,
    /// Two green threads, as a ring holds them. They are counted and never run: a duplicated one would end the program.
    greens: [usize; 2],
    /// How often each was taken.
    taken: [AtomicU32; 2],
    rounds: Rounds,
    cpu: u32,
}

impl<K: Membarrier, const OP: u32> Subject<K, OP> {
    fn got(&self, green: usize) {
        for (mine, taken) in self.greens.iter().zip(&self.taken) {
            taken.fetch_add(u32::from(*mine == green), Relaxed);
        }
    }

    fn steal(&self) {
        self.rings.steal(self.cpu as usize, |green| self.got(green));
    }

    /// Empties the ring while the victim is in no section. Returns whether each queued green thread was taken once.
    fn is_right(&self) -> bool {
        while !self.rings.looks_empty(self.cpu as usize) {
            self.steal();
        }
        let queued = if OP == PUSH { [1, 1] } else { [1, 0] };
        let taken = self.taken.each_ref().map(|taken| taken.swap(0, Relaxed));
        taken == queued
    }
}

impl<K: Membarrier + Send + Sync, const OP: u32> Schedule for Subject<K, OP> {
    /// The victim's rounds.
    fn run(&self, _: &Carrier, thread: &Thread<'_>) {
        sched::allow(0, &CpuSet::one(self.cpu)).unwrap();
        // SAFETY: Thread::current (1): nothing is lent, and this carrier runs no green thread.
        let current = unsafe { thread.current::<CpuId>() }.unwrap();
        let stopping = Slow {
            current,
            stop: &self.rounds.stop,
        };
        // As in the run queue: if the ring is full, the carrier keeps it.
        let push_or_keep = |pushed: bool, green| {
            if !pushed {
                self.got(green);
            }
        };
        let [first, second] = self.greens;
        self.rounds.each(|| {
            push_or_keep(self.rings.push(current, first).is_ok(), first);
            if OP == PUSH {
                push_or_keep(self.rings.push(stopping, second).is_ok(), second);
            } else if let Ok(green) = self.rings.pop(stopping) {
                self.got(green);
            }
        });
    }

    fn left(&self) {}
}

/// Runs `count` rounds at each step, or until one is wrong.
fn rounds<K, const OP: u32>(count: u32, fence: Fence<K>, until_wrong: bool) -> Told
where
    K: Membarrier + Send + Sync + 'static,
{
    let mut cpus = sched::allowed().unwrap().iter();
    let (here, there) = (cpus.next().unwrap(), cpus.next().unwrap());
    assert!((there as usize) < CPUS, "no ring for CPU {there}");
    let green = || {
        // SAFETY: make (1) it does not switch.
        let made = unsafe { make(|| ()) };
        made.map(|(green, _)| green.into_raw().expose_provenance())
    };
    let rings = Rings::leak(fence).unwrap();
    let subject: &'static Subject<K, OP> = Box::leak(Box::new(Subject {
        rings,
        greens: [green().unwrap(), green().unwrap()],
        taken: [const { AtomicU32::new(0) }; 2],
        rounds: Rounds::new(),
        cpu: there,
    }));
    sched::allow(0, &CpuSet::one(here)).unwrap();
    let victim = carrier::start(subject, Exit::Joinable).unwrap();
    let told = subject.rounds.at_each_step(
        STEPS,
        count,
        until_wrong,
        || subject.steal(),
        |()| subject.is_right(),
    );
    victim.unwrap().join().unwrap();
    told
}

/// Makes the main thread a carrier. Returns whether sections may run.
fn begin(ctx: &Ctx<'_>) -> bool {
    // SAFETY: adopt_main (1) each test has its own process, and this is its main thread.
    let _ = unsafe { crate::adopt_main(ctx.env) }.unwrap();
    RSEQ.section_support() == SectionSupport::Allowed
}

fn at_each_step<const OP: u32>(ctx: &Ctx<'_>) {
    if !begin(ctx) {
        skip!("this kernel is known to abort no sections");
    }
    let count = ctx.scale(6, 3, 0) as u32;
    let told = rounds::<_, OP>(count, Fence::register(), false);
    told.right_at_each_step(STEPS);
}

/// Broken: the thief finishes while the victim is stopped in its section.
fn without<const OP: u32>(ctx: &Ctx<'_>) {
    if !begin(ctx) {
        skip!("this kernel is known to abort no sections");
    }
    let count = ctx.scale(8, 4, 0) as u32;
    let told = rounds::<_, OP>(count, Fence::register_on(Lies), true);
    assert!(
        told.wrong > 0,
        "no green thread was in two hands, or in none"
    );
    passed!("seen");
}
