//! A [`Subject`] under a tracer: see [`Program`].

use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use linux_raw_sys::general::siginfo_t;
use rseq_rt::percpu::{Commit, Current, Index, RESTARTS};

use super::super::single::End;
use super::super::steps::{AREA, Program, SIGNALS, note};
use super::{Attempt, Subject};
use crate::hooked::RSEQ;
use crate::signals;

/// A subject as a program.
pub struct Stepped<S>(PhantomData<S>);

/// The section that is running, or `IDLE`.
static RUNNING: AtomicUsize = AtomicUsize::new(IDLE);
const IDLE: usize = usize::MAX;
/// The seed of the next run.
static SEED: AtomicUsize = AtomicUsize::new(1);
/// Whether the handler ran, and the sum that it found.
static CAME: AtomicBool = AtomicBool::new(false);
static FOUND: AtomicUsize = AtomicUsize::new(0);
/// Whether it found a half-done item.
static HALF: AtomicBool = AtomicBool::new(false);
/// The handler's own change of the sum.
static HANDLED: AtomicUsize = AtomicUsize::new(0);

fn seed() -> usize {
    let seed = SEED.load(SeqCst);
    SEED.store(seed + 1, SeqCst);
    seed
}

/// An undisturbed run. Returns the change of the sum.
fn run<S: Subject, I: Index>(nth: usize, current: Current<'_, I>, commit: Commit) -> usize {
    let mut data = S::data(nth, seed());
    let attempt = Attempt {
        current: current.restarts(RESTARTS),
        commit,
        steps: None,
    };
    match S::run(nth, attempt, &mut data) {
        Ok(result) => S::change(nth, &data, result),
        Err(_) => 0,
    }
}

/// Checks the sum, and runs the section that it interrupted.
unsafe extern "C" fn handler<S: Subject, I: Index>(signal: i32, _: *mut siginfo_t, _: *mut u8) {
    note::<Stepped<S>>(signal);
    let nth = RUNNING.load(SeqCst);
    // SAFETY: (1) the child's; (2) no loan, no exit hook.
    let current: Option<Current<'_, I>> = unsafe { RSEQ.current(&AREA) };
    let Some(current) = current.filter(|_| nth != IDLE) else {
        return;
    };
    match S::sum() {
        Some(sum) => FOUND.store(sum, SeqCst),
        None => HALF.store(true, SeqCst),
    }
    CAME.store(true, SeqCst);
    HANDLED.store(run::<S, I>(nth, current, Commit::Relaxed), SeqCst);
}

impl<S: Subject> Program for Stepped<S> {
    const SECTIONS: usize = S::SECTIONS;
    const REACH: u32 = 260;
    const STRIDE: u32 = 37;
    const SLOTS: usize = 256;
    const SINGLE: bool = false;

    fn begin<I: Index>() {
        for signal in SIGNALS {
            // SAFETY: handle (1) only sections and atomics.
            unsafe { signals::handle(signal, handler::<S, I>, 0) }.unwrap();
        }
    }

    fn held(slot: usize) -> usize {
        S::held(slot)
    }

    fn once<I: Index>(nth: usize, current: Current<'_, I>, commit: Commit, around: fn()) -> End {
        S::clear();
        // Provides an item for the others, and for the handler.
        if nth != 0 {
            run::<S, I>(0, current, commit);
            run::<S, I>(0, current, commit);
        }
        let Some(before) = S::sum() else {
            return End::Wrong;
        };
        CAME.store(false, SeqCst);
        HALF.store(false, SeqCst);
        HANDLED.store(0, SeqCst);
        let attempt = Attempt {
            current,
            commit,
            steps: None,
        };
        let mut data = S::data(nth, seed());
        RUNNING.store(nth, SeqCst);
        around();
        let result = S::run(nth, attempt, &mut data);
        around();
        RUNNING.store(IDLE, SeqCst);
        let change = result.map_or(0, |result| S::change(nth, &data, result));
        let done = before.wrapping_add(change);
        let found = FOUND.load(SeqCst);
        let half = HALF.load(SeqCst) || CAME.load(SeqCst) && found != before && found != done;
        match result {
            _ if half || S::sum() != Some(done.wrapping_add(HANDLED.load(SeqCst))) => End::Wrong,
            Ok(_) => End::Done,
            Err(miss) => End::Missed(miss),
        }
    }
}
