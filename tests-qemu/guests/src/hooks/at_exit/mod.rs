//! At-exit callbacks: their order, their limits, and rseq in them.

mod storm;

use core::cell::Cell;
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use rseq_rt::{AtExit, Callback, Error, State, Thread};

use super::common::{Hooks as _, init, is_ours, joined, main_thread, right_everywhere};
use super::storms::storm::nothing_registered;
use crate::harness::{Ctx, Test, passed};
use crate::hooked::{self, Hooked, RSEQ};
use crate::sys::sched;

pub const TESTS: &[Test] = &[
    Test::new("at-exit/last-added-first-called", lifo),
    Test::new("at-exit/callbacks-add-callbacks", add_more),
    Test::new("at-exit/full-is-said-and-changes-nothing", full),
    Test::new("at-exit/closed-after-the-last", closed),
    Test::new("at-exit/rseq-works-in-callbacks", rseq_works),
    Test::new("at-exit/late-lazy-call-stays-exiting", late),
    Test::new("at-exit/signals-open-in-callbacks", storm::signals_open),
    Test::new("at-exit/push-from-handler", storm::push_from_handler),
];

const STACK: usize = 16 * 1024;

/// The callbacks that ran: their numbers as decimal digits, the first on the left.
struct Log {
    digits: Cell<u64>,
    callbacks: AtExit<4>,
}

impl Log {
    const fn new() -> Self {
        Self {
            digits: Cell::new(0),
            callbacks: AtExit::new(),
        }
    }

    fn note(&self, digit: u64) {
        self.digits.set(self.digits.get() * 10 + digit);
    }

    fn add(&self, function: unsafe extern "C" fn(*mut c_void)) -> Result<(), Error> {
        let argument = ptr::from_ref(self).cast_mut().cast();
        // SAFETY: Callback::new (1) the log outlives the run, on this thread.
        self.callbacks
            .push(unsafe { Callback::new(function, argument) })
    }

    /// Runs the callbacks, which must leave these digits.
    #[track_caller]
    fn runs(&self, thread: &Thread<'_>, digits: u64) {
        thread.run_at_exit(&self.callbacks);
        assert_eq!(self.digits.get(), digits, "the order of the calls");
    }
}

/// # Safety
/// 1. `log` is a [`Log`].
unsafe extern "C" fn digit<const DIGIT: u64>(log: *mut c_void) {
    // SAFETY: 1.
    unsafe { &*log.cast::<Log>() }.note(DIGIT);
}

fn lifo(ctx: &Ctx) {
    let thread = main_thread(ctx);
    let log = Log::new();
    for function in [digit::<1>, digit::<2>, digit::<3>, digit::<4>] {
        log.add(function).unwrap();
    }
    log.runs(&thread, 4321);
}

fn add_more(ctx: &Ctx) {
    /// # Safety
    /// 1. `log` is a [`Log`].
    unsafe extern "C" fn adds_two(log: *mut c_void) {
        // SAFETY: 1.
        let log = unsafe { &*log.cast::<Log>() };
        log.note(3);
        log.add(digit::<4>).unwrap();
        log.add(digit::<5>).unwrap();
    }
    static LEFT: AtomicU64 = AtomicU64::new(0);
    /// # Safety
    /// 1. `log` is a [`Log`].
    unsafe extern "C" fn again(log: *mut c_void) {
        if LEFT.fetch_sub(1, Relaxed) > 1 {
            // SAFETY: 1.
            unsafe { &*log.cast::<Log>() }.add(again).unwrap();
        }
    }
    let thread = main_thread(ctx);
    let log = Log::new();
    for function in [digit::<1>, digit::<2>, adds_two] {
        log.add(function).unwrap();
    }
    log.runs(&thread, 35_421);

    // More than fit, one after the other, on a stack that holds others too.
    let log = Log::new();
    LEFT.store(10_000, Relaxed);
    for function in [digit::<1>, digit::<2>, digit::<3>, again] {
        log.add(function).unwrap();
    }
    log.runs(&thread, 321);
    assert_eq!(LEFT.load(Relaxed), 0, "not called");
}

fn full(ctx: &Ctx) {
    let thread = main_thread(ctx);
    let log = Log::new();
    for function in [digit::<1>, digit::<2>, digit::<3>, digit::<4>] {
        log.add(function).unwrap();
    }
    for _ in 0..3 {
        assert_eq!(log.add(digit::<9>), Err(Error::CallbacksFull));
    }
    log.runs(&thread, 4321);

    let none = AtExit::<0>::new();
    // SAFETY: Callback::new (1) never called: it does not fit.
    let callback = unsafe { Callback::new(digit::<1>, ptr::null_mut()) };
    assert_eq!(none.push(callback), Err(Error::CallbacksFull));
    thread.run_at_exit(&none);
}

fn closed(ctx: &Ctx) {
    let thread = main_thread(ctx);
    let log = Log::new();
    log.add(digit::<1>).unwrap();
    // Once with a callback, once without.
    for _ in 0..2 {
        log.runs(&thread, 1);
        assert_eq!(log.add(digit::<2>), Err(Error::Exiting));
    }
    let empty = Log::new();
    empty.runs(&thread, 0);
    assert_eq!(empty.add(digit::<2>), Err(Error::Exiting));
}

fn rseq_works(ctx: &Ctx) {
    static CALLED: AtomicU32 = AtomicU32::new(0);
    /// # Safety
    /// 1. `argument` is the thread's [`Hooked`].
    unsafe extern "C" fn look(argument: *mut c_void) {
        // SAFETY: 1.
        let hooked = unsafe { &*argument.cast::<Hooked>() };
        let state = hooked.area.state();
        let ensured = RSEQ.ensure(&hooked.area);
        assert_eq!(ensured, Ok(state));
        assert_ne!(state, State::Exiting);
        assert!(hooked.argument == 0 || is_ours(state), "{state:?}");
        right_everywhere(&hooked.area);
        CALLED.fetch_add(1, Relaxed);
    }
    fn body(_: &Thread<'_>, hooked: &Hooked) {
        let argument = ptr::from_ref(hooked).cast_mut().cast();
        for _ in 0..8 {
            // SAFETY: Callback::new (1) the block outlives the thread's callbacks.
            let callback = unsafe { Callback::new(look, argument) };
            hooked.at_exit.push(callback).unwrap();
        }
    }
    init(ctx);
    let live = usize::from(ctx.facts.rseq.is_ok());
    let threads = ctx.scale(200, 20, 10) as u32;
    for _ in 0..threads {
        joined(STACK, body, live);
    }
    for _ in 0..threads {
        hooked::start_detached(STACK, body, live).unwrap();
    }
    // Detached threads have checks as well.
    sched::wait_until(|| CALLED.load(Relaxed) >= threads * 16);
    passed!("{} callbacks", threads * 16);
}

fn late(ctx: &Ctx) {
    let thread = main_thread(ctx);
    let area = thread.area();
    let gone = hooked::release(thread).unwrap();
    for _ in 0..3 {
        assert_eq!(RSEQ.ensure(area), Ok(State::Exiting));
        assert_eq!(RSEQ.create(area).unwrap_err(), Error::Exiting);
        assert_eq!(RSEQ.thread_of(area).unwrap_err(), Error::Exiting);
    }
    assert!(nothing_registered(ctx));
    // SAFETY: recycle_area (1) no handler is there.
    unsafe { gone.recycle_area() };
    assert_eq!(area.state(), State::Unregistered);
}
