//! Rounds of one thread whose section stops at each of its steps, and of another one that acts meanwhile.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::slow::Stop;
use crate::harness::passed;
use crate::sys::sched;

/// Ends the rounds.
const OVER: u32 = u32::MAX;

/// The state shared by the two threads.
pub struct Rounds {
    /// The stop of the round's section.
    pub stop: Stop,
    begun: AtomicU32,
    ended: AtomicU32,
}

impl Rounds {
    pub const fn new() -> Self {
        Self {
            stop: Stop::new(),
            begun: AtomicU32::new(0),
            ended: AtomicU32::new(0),
        }
    }

    /// On the thread that stops: runs each round when it begins, until the end.
    pub fn each(&self, mut act: impl FnMut()) {
        let mut round = 0;
        loop {
            spin_until(|| self.begun.load(Acquire) != round);
            round = self.begun.load(Relaxed);
            if round == OVER {
                return;
            }
            act();
            self.ended.store(round, Release);
        }
    }

    /// On the other thread: `count` rounds at each of `tried` steps, or until one is wrong. `beside` acts while the
    /// first thread is stopped at the step, and `is_right` checks the combined result.
    pub fn at_each_step<T>(
        &self,
        tried: u32,
        count: u32,
        until_wrong: bool,
        mut beside: impl FnMut() -> T,
        mut is_right: impl FnMut(T) -> bool,
    ) -> Told {
        let (mut round, mut wrong, mut reached) = (0, 0, 0);
        // The last step first: it is the one before the commit.
        'steps: for step in (1..=tried).rev() {
            let mut left = count;
            for _ in 0..50 * count {
                if left == 0 {
                    break;
                }
                round += 1;
                let before = self.stop.aborted.load(Relaxed);
                self.stop.arm(step);
                self.begun.store(round, Release);
                // There, or through: no section has so many steps.
                spin_until(|| self.stop.is_there() || self.ended.load(Acquire) == round);
                reached |= u64::from(self.stop.is_there()) << step;
                let done = beside();
                self.stop.release();
                spin_until(|| self.ended.load(Acquire) == round);
                // Without the fence, a section that a preemption has aborted shows nothing.
                if !until_wrong || self.stop.aborted.load(Relaxed) == before {
                    left -= 1;
                }
                if !is_right(done) {
                    wrong += 1;
                    if until_wrong {
                        break 'steps;
                    }
                }
            }
        }
        self.begun.store(OVER, Release);
        Told {
            wrong,
            aborted: self.stop.aborted.load(Relaxed),
            reached,
        }
    }
}

impl Default for Rounds {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits for who is on another CPU. Both have to be there at the same time, or the section is aborted by a preemption:
/// so not at once by yielding.
fn spin_until(there: impl Fn() -> bool) {
    loop {
        for _ in 0..10_000 {
            if there() {
                return;
            }
            core::hint::spin_loop();
        }
        sched::relax();
    }
}

/// The results of the rounds at each step.
pub struct Told {
    /// Rounds that lost or doubled something.
    pub wrong: u32,
    pub aborted: usize,
    /// Steps at which the section stopped, one bit each.
    pub reached: u64,
}

impl Told {
    /// No round was wrong, from the first step to the last, which comes before the last one tried.
    pub fn right_at_each_step(&self, tried: u32) {
        assert_eq!(self.wrong, 0, "rounds that lost or doubled something");
        assert!(self.aborted > 0, "no section was aborted");
        let reached = self.reached >> 1;
        let steps = reached.trailing_ones();
        assert!(
            (1..tried).contains(&steps) && reached >> steps == 0,
            "of the steps it stood at {reached:#x}"
        );
        passed!("{} sections aborted at {steps} steps", self.aborted);
    }
}
