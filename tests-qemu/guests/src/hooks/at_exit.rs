//! The at-exit callbacks: their order, their bounds, and that rseq works in them.

use core::cell::Cell;
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use rseq_rt::{AtExit, Callback, Error, Owner, State, Thread};

use super::lifetime::init;
use crate::harness::{Ctx, Failed, PASSED, Test, Verdict, failed};
use crate::hooked::{self, Hooked, RSEQ};
use crate::sys::sched::{self, CpuSet};
use crate::{check, passed, text};

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("at-exit/last-added-first-called", lifo),
    Test::new("at-exit/callbacks-add-callbacks", add_more),
    Test::new("at-exit/full-is-said-and-changes-nothing", full),
    Test::new("at-exit/closed-after-the-last", closed),
    Test::new("at-exit/rseq-works-in-callbacks", rseq_works),
    Test::new("at-exit/late-lazy-call-stays-exiting", late),
];

/// A main thread past its create hook.
pub(super) fn main_thread(ctx: &Ctx<'_>) -> Result<Thread<'static>, Failed> {
    init(ctx)?;
    // SAFETY: adopt_main (1) once in this process, on its main thread.
    unsafe { hooked::adopt_main() }.map_err(|_| failed(text!("the create hook")))
}

/// Which callbacks were called: their numbers as decimal digits, the first called on the left.
struct Log<const N: usize> {
    digits: Cell<u64>,
    callbacks: AtExit<N>,
}

impl<const N: usize> Log<N> {
    const fn new() -> Self {
        Self {
            digits: Cell::new(0),
            callbacks: AtExit::new(),
        }
    }

    fn note(&self, digit: u64) {
        self.digits
            .set(self.digits.get().wrapping_mul(10).wrapping_add(digit));
    }

    fn add(&self, function: unsafe extern "C" fn(*mut c_void)) -> Result<(), Error> {
        let argument = ptr::from_ref(self).cast_mut().cast();
        // SAFETY: Callback::new (1) the log outlives the run, on this thread.
        self.callbacks
            .push(unsafe { Callback::new(function, argument) })
    }
}

/// # Safety
/// 1. `log` is a [`Log<4>`].
unsafe extern "C" fn digit<const DIGIT: u64>(log: *mut c_void) {
    // SAFETY: 1.
    unsafe { &*log.cast::<Log<4>>() }.note(DIGIT);
}

fn lifo(ctx: &Ctx<'_>) -> Verdict {
    let thread = main_thread(ctx)?;
    let log = Log::<4>::new();
    for function in [digit::<1>, digit::<2>, digit::<3>, digit::<4>] {
        check!(log.add(function) == Ok(()), "push");
    }
    thread.run_at_exit(&log.callbacks);
    let called = log.digits.get();
    check!(called == 4321, "called in the order ", called);
    PASSED
}

fn add_more(ctx: &Ctx<'_>) -> Verdict {
    /// # Safety
    /// 1. `log` is a [`Log<4>`].
    unsafe extern "C" fn adds_two(log: *mut c_void) {
        // SAFETY: 1.
        let log = unsafe { &*log.cast::<Log<4>>() };
        log.note(3);
        let added = log.add(digit::<4>).and_then(|()| log.add(digit::<5>));
        if added.is_err() {
            log.note(0);
        }
    }
    static LEFT: AtomicU64 = AtomicU64::new(0);
    /// # Safety
    /// 1. `log` is a [`Log<4>`].
    unsafe extern "C" fn again(log: *mut c_void) {
        if LEFT.fetch_sub(1, Relaxed) > 1 {
            // SAFETY: 1.
            let added = unsafe { &*log.cast::<Log<4>>() }.add(again);
            if added.is_err() {
                let _ = failed(text!("a callback could not add itself again"));
            }
        }
    }
    let thread = main_thread(ctx)?;
    let log = Log::<4>::new();
    for function in [digit::<1>, digit::<2>, adds_two] {
        check!(log.add(function) == Ok(()), "push");
    }
    thread.run_at_exit(&log.callbacks);
    let called = log.digits.get();
    check!(called == 35_421, "called in the order ", called);

    // More than fit, one after the other, on a stack that holds other ones too.
    let log = Log::<4>::new();
    LEFT.store(10_000, Relaxed);
    for function in [digit::<1>, digit::<2>, digit::<3>, again] {
        check!(log.add(function) == Ok(()), "push");
    }
    thread.run_at_exit(&log.callbacks);
    let (called, left) = (log.digits.get(), LEFT.load(Relaxed));
    check!(called == 321, "called in the order ", called);
    check!(left == 0, left, " were not called");
    PASSED
}

fn full(ctx: &Ctx<'_>) -> Verdict {
    let thread = main_thread(ctx)?;
    let log = Log::<4>::new();
    for function in [digit::<1>, digit::<2>, digit::<3>, digit::<4>] {
        check!(log.add(function) == Ok(()), "push");
    }
    for _ in 0..3 {
        check!(
            log.add(digit::<9>) == Err(Error::CallbacksFull),
            "the fifth of four"
        );
    }
    thread.run_at_exit(&log.callbacks);
    let called = log.digits.get();
    check!(called == 4321, "called in the order ", called);

    let none = AtExit::<0>::new();
    // SAFETY: Callback::new (1) never called: it does not fit.
    let callback = unsafe { Callback::new(digit::<1>, ptr::null_mut()) };
    check!(
        none.push(callback) == Err(Error::CallbacksFull),
        "one of none"
    );
    thread.run_at_exit(&none);
    PASSED
}

fn closed(ctx: &Ctx<'_>) -> Verdict {
    let thread = main_thread(ctx)?;
    let log = Log::<4>::new();
    check!(log.add(digit::<1>) == Ok(()), "push");
    // Once with a callback, once with nothing to call.
    for _ in 0..2 {
        thread.run_at_exit(&log.callbacks);
        check!(
            log.add(digit::<2>) == Err(Error::Exiting),
            "pushed to a closed stack"
        );
    }
    let called = log.digits.get();
    check!(called == 1, "called in the order ", called);
    let empty = Log::<4>::new();
    thread.run_at_exit(&empty.callbacks);
    check!(
        empty.add(digit::<2>) == Err(Error::Exiting),
        "an empty stack stays open"
    );
    PASSED
}

static CALLED: AtomicU32 = AtomicU32::new(0);

fn rseq_works(ctx: &Ctx<'_>) -> Verdict {
    /// # Safety
    /// 1. `argument` is the thread's [`Hooked`].
    unsafe extern "C" fn look(argument: *mut c_void) {
        // SAFETY: 1.
        let hooked = unsafe { &*argument.cast::<Hooked>() };
        let state = hooked.area.state();
        // SAFETY: ensure_registered (1, 2) the thread's own area.
        if unsafe { RSEQ.ensure_registered(&hooked.area) } != Ok(state) || state == State::Exiting {
            let _ = failed(text!("the state changed in a callback"));
        }
        if hooked.argument == 1 && state != State::Registered(Owner::Runtime) {
            let _ = failed(text!("not registered in a callback"));
        }
        let cpus = sched::allowed().unwrap_or(CpuSet::empty());
        for cpu in cpus.iter() {
            if sched::allow(0, &CpuSet::one(cpu)).is_ok()
                && RSEQ.current_cpu(&hooked.area) != Ok(cpu)
            {
                let _ = failed(text!("not on CPU ", cpu, " in a callback"));
            }
        }
        let _ = sched::allow(0, &cpus);
        CALLED.fetch_add(1, Relaxed);
    }
    fn body(_: &Thread<'_>, hooked: &Hooked) {
        let argument = ptr::from_ref(hooked).cast_mut().cast();
        for _ in 0..8 {
            // SAFETY: Callback::new (1) the block outlives the thread's callbacks.
            let callback = unsafe { Callback::new(look, argument) };
            if hooked.at_exit.push(callback).is_err() {
                let _ = failed(text!("push"));
            }
        }
    }
    init(ctx)?;
    let live = usize::from(ctx.facts.rseq.is_ok());
    let threads = ctx.scale(200, 20, 10) as u32;
    for _ in 0..threads {
        let thread = hooked::start_joinable(16 * 1024, body, live)?;
        check!(thread.join().is_ok(), "join");
    }
    for _ in 0..threads {
        hooked::start_detached(16 * 1024, body, live)?;
    }
    // The verdict needs what detached threads say.
    while CALLED.load(Relaxed) < threads * 16 {
        sched::relax();
    }
    passed!(threads * 16, " callbacks")
}

fn late(ctx: &Ctx<'_>) -> Verdict {
    let thread = main_thread(ctx)?;
    let area = thread.area();
    let Ok(gone) = hooked::release(thread) else {
        check!(false, "not released");
        return PASSED;
    };
    for _ in 0..3 {
        // SAFETY: ensure_registered (1, 2) the main thread's own area.
        let state = unsafe { RSEQ.ensure_registered(area) };
        check!(state == Ok(State::Exiting), "a late lazy call");
        // SAFETY: on_thread_create (1, 2, 3) as above.
        let created = unsafe { RSEQ.on_thread_create(area) };
        check!(
            created.err() == Some(Error::Exiting),
            "created after its exit hook"
        );
        // SAFETY: current_thread (1) as above, (2) none is left.
        let again = unsafe { RSEQ.current_thread(area) };
        check!(
            again.err() == Some(Error::Exiting),
            "a thread after its exit hook"
        );
    }
    check!(
        super::storms_weather::nothing_registered(ctx)?,
        "the kernel knows an area of a thread past its exit hook"
    );
    // SAFETY: recycle_area (1) no handler is there.
    unsafe { gone.recycle_area() };
    check!(area.state() == State::Unregistered, "recycled, and not new");
    PASSED
}
