//! Handlers and storms.

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::Relaxed};
use linux_raw_sys::general::{SIGUSR1, SIGUSR2, siginfo_t};

use super::STACK;
use crate::harness::{Ctx, passed};
use crate::signals::{self, Storm, Timer};
use crate::sys::time::{self, Span};
use crate::sys::{process, signal};
use crate::{tcb, thread};

static HITS: AtomicU64 = AtomicU64::new(0);
static HANDLER_BLOCK: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());

fn own_block() -> *mut u8 {
    (&raw const *tcb::current()).cast::<u8>().cast_mut()
}

/// Installs a handler that counts, and records the block of its thread.
fn handle(signal: u32) {
    unsafe extern "C" fn note_block(_: i32, _: *mut siginfo_t, _: *mut u8) {
        HANDLER_BLOCK.store(own_block(), Relaxed);
        HITS.fetch_add(1, Relaxed);
    }
    // SAFETY: the handler only stores to atomics.
    unsafe { signals::handle(signal as i32, note_block, 0) }.unwrap();
}

pub(super) fn block_in_handler(_: &Ctx<'_>) {
    fn body(_: &()) {
        // A signal to oneself arrives before the call returns.
        signal::kill_thread(process::gettid(), SIGUSR1 as i32).unwrap();
        assert_eq!(HANDLER_BLOCK.load(Relaxed), own_block());
    }
    handle(SIGUSR1);
    for _ in 0..10 {
        thread::run(STACK, (), body);
    }
    body(&());
    assert_eq!(HITS.load(Relaxed), 11);
}

/// Waits until the counter has reached `goal`. Pending signals merge, so the waiter runs as much as it can.
fn wait_for(counter: &AtomicU64, goal: u64) {
    while counter.load(Relaxed) < goal {
        core::hint::spin_loop();
    }
}

pub(super) fn timer_storm(ctx: &Ctx<'_>) {
    let goal = ctx.scale(500, 200, 50);
    let span = Span::micros(ctx.scale(200, 2000, 2000));
    handle(SIGUSR1);
    let timer = Timer::every(span, process::gettid(), SIGUSR1 as i32).unwrap();
    wait_for(&HITS, goal);
    drop(timer);
    let after = HITS.load(Relaxed);
    time::sleep(Span::millis(20)).unwrap();
    let late = HITS.load(Relaxed) - after;
    assert!(late <= 1, "{late} signals after the end of the timer");
    passed!("{after} signals");
}

pub(super) fn tgkill_storm(ctx: &Ctx<'_>) {
    const THREADS: usize = 4;
    static TARGETS: [AtomicU32; THREADS] = [const { AtomicU32::new(0) }; THREADS];
    fn body(goal: &u64) {
        wait_for(&HITS, *goal);
    }
    let goal = ctx.scale(500, 300, 100);
    handle(SIGUSR2);
    let storm = Storm::start(&TARGETS, SIGUSR2 as i32, Span::micros(50)).unwrap();
    let threads: [_; THREADS] = core::array::from_fn(|_| thread::start(STACK, goal, body).unwrap());
    for (thread, target) in threads.iter().zip(&TARGETS) {
        target.store(thread.tid(), Relaxed);
    }
    for thread in threads {
        thread.join().unwrap();
    }
    let sent = storm.stop().unwrap();
    assert_eq!(signal::blocked(), Ok(0), "after the storm");
    passed!("{sent} signals sent");
}
