//! Handlers and storms.

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::Relaxed};
use linux_raw_sys::general::{SIGUSR1, SIGUSR2, siginfo_t};

use super::STACK;
use crate::harness::{Ctx, PASSED, Verdict, failed};
use crate::signals::{self, Storm, Timer};
use crate::sys::time::{self, Span};
use crate::sys::{process, signal};
use crate::{check, passed, tcb, text, thread};

static HITS: AtomicU64 = AtomicU64::new(0);
static HANDLER_BLOCK: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());

unsafe extern "C" fn note_block(_: i32, _: *mut siginfo_t, _: *mut u8) {
    let here = tcb::current();
    HANDLER_BLOCK.store((&raw const *here).cast::<u8>().cast_mut(), Relaxed);
    HITS.fetch_add(1, Relaxed);
}

pub(super) fn block_in_handler(_: &Ctx) -> Verdict {
    // SAFETY: the handler only stores to atomics.
    unsafe { signals::handle(SIGUSR1 as i32, note_block, 0)? };
    fn body(_: &()) {
        let own = (&raw const *tcb::current()).cast::<u8>().cast_mut();
        let sent = signal::kill_thread(process::gettid(), SIGUSR1 as i32);
        // A signal to oneself comes before the call returns.
        let seen = HANDLER_BLOCK.load(Relaxed);
        if sent.is_err() || seen != own {
            let _ = failed(text!(
                "the handler saw ",
                seen,
                ", the thread ",
                own,
                ", ",
                sent
            ));
        }
    }
    for _ in 0..10 {
        thread::start(STACK, (), body)?.join()?;
    }
    body(&());
    check!(
        HITS.load(Relaxed) == 11,
        HITS.load(Relaxed),
        " handlers ran"
    );
    PASSED
}

/// Waits until the counter has come so far. Signals that wait merge, so whoever waits runs as much as it can.
fn wait_for(counter: &AtomicU64, goal: u64) {
    while counter.load(Relaxed) < goal {
        core::hint::spin_loop();
    }
}

pub(super) fn timer_storm(ctx: &Ctx) -> Verdict {
    let goal = ctx.scale(500, 200, 50);
    // SAFETY: the handler only stores to atomics.
    unsafe { signals::handle(SIGUSR1 as i32, note_block, 0)? };
    let timer = Timer::every(
        Span::micros(ctx.scale(200, 2000, 2000)),
        process::gettid(),
        SIGUSR1 as i32,
    )?;
    wait_for(&HITS, goal);
    drop(timer);
    let after = HITS.load(Relaxed);
    time::sleep(Span::millis(20))?;
    let late = HITS.load(Relaxed) - after;
    check!(late <= 1, late, " signals after the end of the timer");
    passed!(after, " signals")
}

pub(super) fn tgkill_storm(ctx: &Ctx) -> Verdict {
    const THREADS: usize = 4;
    static TARGETS: [AtomicU32; THREADS] = [const { AtomicU32::new(0) }; THREADS];
    fn body(goal: &u64) {
        wait_for(&HITS, *goal);
    }
    let goal = ctx.scale(500, 300, 100);
    // SAFETY: the handler only stores to atomics.
    unsafe { signals::handle(SIGUSR2 as i32, note_block, 0)? };
    let storm = Storm::start(&TARGETS, SIGUSR2 as i32, Span::micros(50))?;
    let threads: [_; THREADS] = core::array::from_fn(|_| thread::start(STACK, goal, body));
    for (thread, target) in threads.iter().zip(&TARGETS) {
        target.store(thread.as_ref().map_or(0, |thread| thread.tid()), Relaxed);
    }
    for thread in threads {
        thread?.join()?;
    }
    let sent = storm.stop()?;
    let blocked = signal::blocked()?;
    check!(
        blocked == 0,
        "the mask is ",
        crate::show::Hex(blocked),
        " after the storm"
    );
    passed!(sent, " signals sent")
}
