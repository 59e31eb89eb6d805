//! At-exit callbacks and signals: callbacks run with signals open, and a handler may push.

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::Relaxed};
use linux_raw_sys::general::{SIGUSR1, siginfo_t};
use rseq_rt::{AtExit, Callback, Error, State, Thread};

use super::at_exit::main_thread;
use super::storms_weather::{ALIVE, HANDLED, LATE, SENT, STACK, begin, enter, expect, leave};
use crate::harness::{Ctx, Test, Verdict, failed};
use crate::hooked::{self, Hooked};
use crate::signals::{self, Storm};
use crate::sys::time::Span;
use crate::sys::{process, sched, signal};
use crate::{check, passed, text};

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("at-exit/signals-open-in-callbacks", signals_open),
    Test::new("at-exit/push-from-handler", push_from_handler),
];

static CALLED: AtomicU64 = AtomicU64::new(0);

/// # Safety
/// 1. `argument` is the thread's [`Hooked`].
unsafe extern "C" fn meets_a_signal(argument: *mut c_void) {
    // SAFETY: 1.
    let hooked = unsafe { &*argument.cast::<Hooked>() };
    if signal::blocked() != Ok(0) {
        let _ = failed(text!("signals are blocked in a callback"));
    }
    let before = HANDLED.load(Relaxed);
    let sent = signal::kill_thread(process::gettid(), SENT);
    // A signal to oneself comes before the call returns.
    if sent.is_ok() && HANDLED.load(Relaxed) == before {
        let _ = failed(text!("no handler in a callback"));
    }
    if hooked.area.state() == State::Exiting {
        let _ = failed(text!("exiting before the exit hook"));
    }
    CALLED.fetch_add(1, Relaxed);
}

fn signals_open(ctx: &Ctx<'_>) -> Verdict {
    fn body(_: &Thread<'_>, hooked: &Hooked) {
        enter(hooked.argument);
        let argument = ptr::from_ref(hooked).cast_mut().cast();
        for _ in 0..4 {
            // SAFETY: Callback::new (1) the block outlives the thread's callbacks.
            let callback = unsafe { Callback::new(meets_a_signal, argument) };
            if hooked.at_exit.push(callback).is_err() {
                let _ = failed(text!("push"));
            }
        }
    }
    let storm = begin(ctx)?;
    let rounds = ctx.scale(1_500, 60, 20);
    for _ in 0..rounds {
        for slot in 0..ALIVE {
            leave(slot);
            expect(slot);
            hooked::start_detached(STACK, body, slot)?;
        }
    }
    (0..ALIVE).for_each(leave);
    let _ = storm.stop()?;
    let (called, late) = (CALLED.load(Relaxed), LATE.load(Relaxed));
    check!(
        called == rounds * ALIVE as u64 * 4,
        called,
        " callbacks ran"
    );
    check!(late == 0, late, " handlers ran after the exit hook");
    passed!(called, " callbacks")
}

/// The stack that the handler pushes to, while there is one.
static STACK_NOW: AtomicPtr<AtExit<8>> = AtomicPtr::new(ptr::null_mut());
static PUSHED: AtomicU64 = AtomicU64::new(0);
static BUSY: AtomicU64 = AtomicU64::new(0);
static ODD: AtomicU64 = AtomicU64::new(0);
static TARGET: [AtomicU32; 1] = [AtomicU32::new(0)];

unsafe extern "C" fn count(word: *mut c_void) {
    if word.cast_const() != (&raw const CALLED).cast() {
        ODD.fetch_add(1, Relaxed);
    }
    CALLED.fetch_add(1, Relaxed);
}

fn counting() -> Callback {
    let word = (&raw const CALLED).cast_mut().cast();
    // SAFETY: Callback::new (1) compares an address and counts.
    unsafe { Callback::new(count, word) }
}

unsafe extern "C" fn push(_: i32, _: *mut siginfo_t, _: *mut u8) {
    // SAFETY: null, or the stack of the interrupted thread, which this handler runs on.
    let Some(stack) = (unsafe { STACK_NOW.load(Relaxed).as_ref() }) else {
        return;
    };
    match stack.push(counting()) {
        Ok(()) => _ = PUSHED.fetch_add(1, Relaxed),
        Err(Error::Busy) => _ = BUSY.fetch_add(1, Relaxed),
        Err(Error::CallbacksFull | Error::Exiting) => {}
        Err(_) => _ = ODD.fetch_add(1, Relaxed),
    }
}

/// Each callback that was taken is called once, whoever pushed it and whenever.
fn push_from_handler(ctx: &Ctx<'_>) -> Verdict {
    let thread = main_thread(ctx)?;
    // SAFETY: handle (1) the handler comes to one thread alone, and AtExit is made for it.
    unsafe { signals::handle(SIGUSR1 as i32, push, 0)? };
    for target in &TARGET {
        target.store(process::gettid(), Relaxed);
    }
    let storm = Storm::start(
        &TARGET,
        SIGUSR1 as i32,
        Span::micros(ctx.scale(0, 100, 100)),
    )?;
    let (least, most) = (ctx.scale(500_000, 5_000, 2_000), 10_000_000);
    let mut own = 0;
    let mut round = 0;
    // As long as it takes to meet a change in the middle, within reason.
    while round < least || (BUSY.load(Relaxed) == 0 && round < most) {
        round += 1;
        let stack = AtExit::<8>::new();
        STACK_NOW.store((&raw const stack).cast_mut(), Relaxed);
        for _ in 0..6 {
            match stack.push(counting()) {
                Ok(()) => own += 1,
                Err(Error::CallbacksFull) => {}
                Err(_) => _ = ODD.fetch_add(1, Relaxed),
            }
        }
        thread.run_at_exit(&stack);
        let late = stack.push(counting());
        STACK_NOW.store(ptr::null_mut(), Relaxed);
        let (called, taken) = (CALLED.load(Relaxed), own + PUSHED.load(Relaxed));
        check!(called == taken, taken, " taken, and ", called, " called");
        check!(late == Err(Error::Exiting), "pushed to a closed stack");
        if round.is_multiple_of(4096) {
            sched::relax();
        }
    }
    let _ = storm.stop()?;
    let (busy, odd) = (BUSY.load(Relaxed), ODD.load(Relaxed));
    check!(odd == 0, odd, " odd callbacks or answers");
    passed!(
        own,
        " pushed, ",
        PUSHED.load(Relaxed),
        " more by the handler, which was told busy ",
        busy,
        " times"
    )
}
