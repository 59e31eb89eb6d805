//! At-exit callbacks and signals: callbacks run with signals open, and a handler may push.

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::Relaxed};
use linux_raw_sys::general::{SIGUSR1, siginfo_t};
use rseq_rt::{AtExit, Callback, Error, State, Thread};

use crate::harness::{Ctx, passed};
use crate::hooked::{self, Hooked};
use crate::hooks::common::main_thread;
use crate::hooks::storms::storm::{ALIVE, HANDLED, LATE, SENT, STACK, begin, enter, expect, leave};
use crate::signals::{self, Storm};
use crate::sys::time::Span;
use crate::sys::{process, sched, signal};

static CALLED: AtomicU64 = AtomicU64::new(0);

/// # Safety
/// 1. `argument` is the thread's [`Hooked`].
unsafe extern "C" fn meets_a_signal(argument: *mut c_void) {
    // SAFETY: 1.
    let hooked = unsafe { &*argument.cast::<Hooked>() };
    assert_eq!(signal::blocked(), Ok(0));
    let before = HANDLED.load(Relaxed);
    let sent = signal::kill_thread(process::gettid(), SENT);
    // A signal to oneself arrives before the call returns.
    assert!(
        sent.is_err() || HANDLED.load(Relaxed) != before,
        "no handler"
    );
    assert_ne!(hooked.area.state(), State::Exiting);
    CALLED.fetch_add(1, Relaxed);
}

pub fn signals_open(ctx: &Ctx) {
    fn body(_: &Thread<'_>, hooked: &Hooked) {
        enter(hooked.argument);
        let argument = ptr::from_ref(hooked).cast_mut().cast();
        for _ in 0..4 {
            // SAFETY: Callback::new (1) the block outlives the thread's callbacks.
            let callback = unsafe { Callback::new(meets_a_signal, argument) };
            hooked.at_exit.push(callback).unwrap();
        }
    }
    let storm = begin(ctx);
    let rounds = ctx.scale(1_500, 60, 20);
    for _ in 0..rounds {
        for slot in 0..ALIVE {
            leave(slot);
            expect(slot);
            hooked::start_detached(STACK, body, slot).unwrap();
        }
    }
    (0..ALIVE).for_each(leave);
    storm.stop().unwrap();
    let called = CALLED.load(Relaxed);
    assert_eq!(called, rounds * ALIVE as u64 * 4, "callbacks");
    assert_eq!(LATE.load(Relaxed), 0, "handlers after the exit hook");
    passed!("{called} callbacks");
}

/// The stack that the handler pushes to, if any.
static STACK_NOW: AtomicPtr<AtExit<8>> = AtomicPtr::new(ptr::null_mut());
static PUSHED: AtomicU64 = AtomicU64::new(0);
static BUSY: AtomicU64 = AtomicU64::new(0);
static TARGET: [AtomicU32; 1] = [AtomicU32::new(0)];

unsafe extern "C" fn count(word: *mut c_void) {
    assert_eq!(word.cast_const(), (&raw const CALLED).cast());
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
        Err(error) => panic!("{error:?}"),
    }
}

/// Each accepted callback runs once, whoever pushed it and whenever.
pub fn push_from_handler(ctx: &Ctx) {
    let thread = main_thread(ctx);
    // SAFETY: handle (1) the handler comes to one thread alone, and AtExit is made for it.
    unsafe { signals::handle(SIGUSR1 as i32, push, 0) }.unwrap();
    TARGET[0].store(process::gettid(), Relaxed);
    let pause = Span::micros(ctx.scale(0, 100, 100));
    let storm = Storm::start(&TARGET, SIGUSR1 as i32, pause).unwrap();
    let (least, most) = (ctx.scale(500_000, 5_000, 2_000), 10_000_000);
    let mut own = 0;
    let mut round = 0;
    // Until a push has interrupted a change, with a limit.
    while round < least || (BUSY.load(Relaxed) == 0 && round < most) {
        round += 1;
        let stack = AtExit::<8>::new();
        STACK_NOW.store((&raw const stack).cast_mut(), Relaxed);
        for _ in 0..6 {
            match stack.push(counting()) {
                Ok(()) => own += 1,
                answer => assert_eq!(answer, Err(Error::CallbacksFull)),
            }
        }
        thread.run_at_exit(&stack);
        let late = stack.push(counting());
        STACK_NOW.store(ptr::null_mut(), Relaxed);
        assert_eq!(CALLED.load(Relaxed), own + PUSHED.load(Relaxed));
        assert_eq!(late, Err(Error::Exiting));
        if round.is_multiple_of(4096) {
            sched::relax();
        }
    }
    storm.stop().unwrap();
    let (pushed, busy) = (PUSHED.load(Relaxed), BUSY.load(Relaxed));
    passed!("{own} pushed, {pushed} more by the handler, which found it busy {busy} times");
}
