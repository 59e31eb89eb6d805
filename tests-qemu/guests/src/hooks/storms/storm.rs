//! Signals to every thread, from its own timer and from a thread that sends without pause. The handler registers
//! lazily, reads everything, and checks the results.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use linux_raw_sys::general::{SIGKILL, SIGSTOP, SIGSYS, SIGUSR1, SIGUSR2, siginfo_t};
use rseq_rt::{Area, Owner, State};

use crate::errno::Errno;
use crate::harness::{Ctx, Scale};
use crate::hooked::{self, RSEQ};
use crate::hooks::common::{Hooks as _, init};
use crate::signals::{self, Storm};
use crate::sys::signal::Mask;
use crate::sys::time::{self, Span};
use crate::sys::{process, sched, signal};
use crate::thread::Run;
use crate::{tcb, witness};

/// The storm's signal.
pub const SENT: i32 = SIGUSR1 as i32;
/// The timers' signal.
pub const TIMED: i32 = SIGUSR2 as i32;
/// Room for two nested handlers, and for vector registers.
pub const STACK: usize = 64 * 1024;
/// The number of threads alive at a time.
pub const ALIVE: usize = 4;

/// Handlers that found an area.
pub static HANDLED: AtomicU64 = AtomicU64::new(0);
/// Those of them that registered it.
pub static REGISTERED_LAZILY: AtomicU64 = AtomicU64::new(0);
/// Those that found the thread past its exit hook.
pub static LATE: AtomicU64 = AtomicU64::new(0);

/// The payload of a thread whose create hook runs with signals open.
pub struct Open {
    pub area: Area,
    /// Its index in [`TARGETS`].
    pub slot: usize,
}

fn area_here() -> Option<&'static Area> {
    if let Some(hooked) = hooked::here() {
        return Some(&hooked.area);
    }
    let here = tcb::current();
    let run = here.payload::<Run<Open>>()?;
    // SAFETY: the block lives as long as the calling thread, which runs on it.
    unsafe { (&raw const run.payload.area).as_ref() }
}

/// Does everything that a handler may do.
unsafe extern "C" fn handler(_: i32, _: *mut siginfo_t, _: *mut u8) {
    let Some(area) = area_here() else { return };
    let before = area.state();
    let cpu = RSEQ.current_cpu(area);
    let node = RSEQ.current_node(area);
    let mm_cid = RSEQ.current_mm_cid(area);
    let ensured = RSEQ.ensure(area);
    let after = area.state();
    let is_legal = match (before, after) {
        (State::Unregistered, State::Registered(Owner::Runtime) | State::Unavailable(_)) => true,
        (State::Unregistered, _) => false,
        _ => before == after,
    };
    assert!(is_legal, "from {before:?} to {after:?} in a handler");
    assert_eq!(ensured, Ok(after));
    // -1 and similar values are no CPU.
    for number in [cpu, node, Ok(mm_cid.unwrap_or(0))] {
        assert!(matches!(number, Ok(0..=0xffff)), "{number:?} is no CPU");
    }
    if before != after {
        REGISTERED_LAZILY.fetch_add(1, Relaxed);
    }
    if before == State::Exiting {
        LATE.fetch_add(1, Relaxed);
    }
    HANDLED.fetch_add(1, Relaxed);
}

const NONE: u32 = u32::MAX;
/// The tids of the threads that the storm sends to; 0: none.
pub static TARGETS: [AtomicU32; ALIVE] = [const { AtomicU32::new(0) }; ALIVE];
/// The timer of each, or NONE.
static TIMERS: [AtomicU32; ALIVE] = [const { AtomicU32::new(NONE) }; ALIVE];
/// In [`TARGETS`]: started, but its tid is not known yet. No thread of the kernel has this tid.
const STARTED: u32 = i32::MAX as u32;

/// The period of a timer in microseconds.
static TICK: AtomicU64 = AtomicU64::new(0);

/// Initialises rseq, installs the handler, and starts the storm.
pub fn begin(ctx: &Ctx<'_>) -> Storm<ALIVE> {
    init(ctx);
    find_every(ctx);
    handlers();
    // A handler must end before the next tick, or the thread makes no progress.
    TICK.store(ctx.scale(50, 1_000, 1_000), Relaxed);
    let pause = Span::micros(ctx.scale(10, 200, 200));
    Storm::start(&TARGETS, SENT, pause).unwrap()
}

static EVERY: AtomicU64 = AtomicU64::new(0);

/// The mask of all signals that can be blocked.
pub fn every() -> u64 {
    EVERY.load(Relaxed)
}

/// The mask inside the hooks: SIGSYS stays open, for a filter that traps the calls that follow.
pub fn blocked_by_hooks() -> u64 {
    every() & !signal::bit(SIGSYS as i32)
}

/// SIGKILL and SIGSTOP cannot be blocked, nor under qemu-user two more, which its own libc keeps.
fn find_every(ctx: &Ctx<'_>) {
    let before = signal::mask(Mask::Exactly(u64::MAX)).unwrap();
    let every = signal::mask(Mask::Exactly(before)).unwrap();
    let all = !(signal::bit(SIGKILL as i32) | signal::bit(SIGSTOP as i32));
    assert!(every == all || ctx.scale == Scale::User, "{every:#x}");
    EVERY.store(every, Relaxed);
}

pub fn handlers() {
    for signal in [SENT, TIMED] {
        // SAFETY: handle (1) it uses only atomics and async-signal-safe calls.
        unsafe { signals::handle(signal, handler, 0) }.unwrap();
    }
}

/// Claims the slot for a thread about to be started.
pub fn expect(slot: usize) {
    TARGETS[slot].store(STARTED, Relaxed);
}

/// Exposes the calling thread to the storm and sets its timer.
pub fn enter(slot: usize) {
    let tid = process::gettid();
    if let Ok(timer) = time::timer_create(tid, TIMED) {
        let _ = time::timer_every(timer, Span::micros(TICK.load(Relaxed)));
        TIMERS[slot].store(timer as u32, Relaxed);
    }
    TARGETS[slot].store(tid, Relaxed);
}

/// Waits until the thread of this slot is gone, if any, and stops its timer.
pub fn leave(slot: usize) {
    loop {
        match TARGETS[slot].load(Relaxed) {
            0 => return,
            STARTED => {}
            tid if signal::kill_thread(tid, 0) == Err(Errno::SRCH) => break,
            _ => {}
        }
        sched::relax();
    }
    TARGETS[slot].store(0, Relaxed);
    let timer = TIMERS[slot].swap(NONE, Relaxed);
    if timer != NONE {
        let _ = time::timer_delete(timer as i32);
    }
}

/// Waits until at least one more handler has run on any thread, with a limit.
pub fn another_handler() {
    let before = HANDLED.load(Relaxed);
    for _ in 0..1_000 {
        if HANDLED.load(Relaxed) != before {
            return;
        }
        sched::relax();
    }
}

/// Does the kernel know of no area of the calling thread? True as well where there is no rseq.
pub fn nothing_registered(ctx: &Ctx<'_>) -> bool {
    ctx.facts.rseq.is_err() || witness::is_unregistered()
}
