//! Signals at every thread, from a timer of its own and from a thread that sends without pause. The handler
//! registers lazily, reads everything, and judges what it sees.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use linux_raw_sys::general::{SIGKILL, SIGSTOP, SIGSYS, SIGUSR1, SIGUSR2, siginfo_t};
use rseq_rt::{Area, Owner, State, arch};

use super::lifetime::init;
use crate::errno::Errno;
use crate::harness::{Ctx, Failed, Scale, failed};
use crate::hooked::{self, RSEQ};
use crate::show::Hex;
use crate::signals::{self, Storm};
use crate::sys::rseq::rseq;
use crate::sys::signal::Mask;
use crate::sys::time::{self, Span};
use crate::sys::{process, sched, signal};
use crate::tcb;
use crate::thread::Run;
use crate::{check, text};

/// What the storm sends.
pub const SENT: i32 = SIGUSR1 as i32;
/// What the timers send.
pub const TIMED: i32 = SIGUSR2 as i32;
/// Room for two handlers, one in the other, and for vector registers.
pub const STACK: usize = 64 * 1024;
/// How many threads are alive at a time.
pub const ALIVE: usize = 4;

/// Handlers that found an area.
pub static HANDLED: AtomicU64 = AtomicU64::new(0);
/// Those of them that registered it.
pub static REGISTERED_LAZILY: AtomicU64 = AtomicU64::new(0);
/// Those that found the thread past its exit hook.
pub static LATE: AtomicU64 = AtomicU64::new(0);

/// The payload of a thread whose create hook runs with signals open.
pub struct Open {
    /// Of this thread.
    pub area: Area,
    /// Its place in [`TARGETS`].
    pub slot: usize,
}

fn area_here() -> Option<&'static Area> {
    if let Some(hooked) = hooked::here() {
        return Some(&hooked.area);
    }
    let here = tcb::current();
    let run = here.payload::<Run<Open>>()?;
    // SAFETY: the block lives as long as the calling thread, and the caller is on it.
    unsafe { (&raw const run.payload.area).as_ref() }
}

/// Does everything that a handler may do, and fails the test if a state or a CPU is not what it can be.
fn look(area: &Area) {
    let before = area.state();
    let cpu = RSEQ.current_cpu(area);
    let node = RSEQ.current_node(area);
    let mm_cid = RSEQ.current_mm_cid(area);
    // SAFETY: ensure_registered (1, 2) the area of the calling thread, in its block.
    let ensured = unsafe { RSEQ.ensure_registered(area) };
    let after = area.state();
    let legal = match before {
        State::Unregistered => matches!(
            after,
            State::Registered(Owner::Runtime) | State::Unavailable(_)
        ),
        _ => after == before,
    };
    let numbers = [cpu, node, Ok(mm_cid.unwrap_or(0))];
    if !legal || ensured != Ok(after) {
        let _ = failed(text!("a handler saw an illegal change of state"));
    }
    // -1 and the like are no CPU.
    if numbers.iter().any(|n| !matches!(n, Ok(0..=0xffff))) {
        let _ = failed(text!("a handler read something that is no CPU"));
    }
    if before != after {
        REGISTERED_LAZILY.fetch_add(1, Relaxed);
    }
    if before == State::Exiting {
        LATE.fetch_add(1, Relaxed);
    }
    HANDLED.fetch_add(1, Relaxed);
}

unsafe extern "C" fn handler(_: i32, _: *mut siginfo_t, _: *mut u8) {
    if let Some(area) = area_here() {
        look(area);
    }
}

/// One of the threads under the storm.
struct Slot {
    /// Its timer, or NONE.
    timer: AtomicU32,
}

const NONE: u32 = u32::MAX;
/// The ids that the storm sends to, and that ends are awaited of; 0 is nobody.
pub static TARGETS: [AtomicU32; ALIVE] = [const { AtomicU32::new(0) }; ALIVE];
static SLOTS: [Slot; ALIVE] = [const {
    Slot {
        timer: AtomicU32::new(NONE),
    }
}; ALIVE];
/// In [`TARGETS`]: started, and its id is still to come. The kernel knows no such id.
const NOT_SAID: u32 = i32::MAX as u32;

/// Microseconds between two signals of a timer.
static TICK: AtomicU64 = AtomicU64::new(0);

/// Initialises rseq, installs the handler, and starts the storm.
pub fn begin(ctx: &Ctx<'_>) -> Result<Storm<ALIVE>, Failed> {
    init(ctx)?;
    find_every(ctx)?;
    handlers()?;
    // A handler has to end before the next tick, or the thread gets nowhere.
    TICK.store(ctx.scale(50, 1_000, 1_000), Relaxed);
    Ok(Storm::start(
        &TARGETS,
        SENT,
        Span::micros(ctx.scale(10, 200, 200)),
    )?)
}

static EVERY: AtomicU64 = AtomicU64::new(0);

/// The mask that blocks all that can be blocked.
pub fn every() -> u64 {
    EVERY.load(Relaxed)
}

/// What the hooks leave blocked: SIGSYS stays open, for a filter that traps the calls that follow.
pub fn blocked_by_hooks() -> u64 {
    every() & !signal::bit(SIGSYS as i32)
}

/// SIGKILL and SIGSTOP cannot be blocked, and qemu-user cannot block two more, which its own libc keeps.
fn find_every(ctx: &Ctx<'_>) -> Result<(), Failed> {
    let before = signal::mask(Mask::Exactly(u64::MAX))?;
    let every = signal::mask(Mask::Exactly(before))?;
    let all = !(signal::bit(SIGKILL as i32) | signal::bit(SIGSTOP as i32));
    check!(
        every == all || ctx.scale == Scale::User,
        "what can be blocked is ",
        Hex(every)
    );
    EVERY.store(every, Relaxed);
    Ok(())
}

/// Installs the handler.
pub fn handlers() -> Result<(), Errno> {
    // SAFETY: handle (1) it uses atomics and async-signal-safe calls alone.
    unsafe {
        signals::handle(SENT, handler, 0)?;
        signals::handle(TIMED, handler, 0)
    }
}

/// Claims the slot for a thread to be started.
pub fn expect(slot: usize) {
    if let Some(target) = TARGETS.get(slot) {
        target.store(NOT_SAID, Relaxed);
    }
}

/// The calling thread comes under the storm and sets its timer.
pub fn enter(slot: usize) {
    let tid = process::gettid();
    let timer = time::timer_create(tid, TIMED).ok();
    if let (Some(timer), Some(slot)) = (timer, SLOTS.get(slot)) {
        let _ = time::timer_every(timer, Span::micros(TICK.load(Relaxed)));
        slot.timer.store(timer as u32, Relaxed);
    }
    if let Some(target) = TARGETS.get(slot) {
        target.store(tid, Relaxed);
    }
}

/// Waits until the thread of this slot is gone, if there is one, and ends its timer.
pub fn leave(slot: usize) {
    let (Some(target), Some(slot)) = (TARGETS.get(slot), SLOTS.get(slot)) else {
        return;
    };
    loop {
        match target.load(Relaxed) {
            0 => return,
            NOT_SAID => {}
            tid if signal::kill_thread(tid, 0) == Err(Errno::SRCH) => break,
            _ => {}
        }
        sched::relax();
    }
    target.store(0, Relaxed);
    let timer = slot.timer.swap(NONE, Relaxed);
    if timer != NONE {
        let _ = time::timer_delete(timer as i32);
    }
}

/// Waits until at least one more handler has run on any thread, but not for ever.
pub fn another_handler() {
    let before = HANDLED.load(Relaxed);
    for _ in 0..1_000 {
        if HANDLED.load(Relaxed) != before {
            return;
        }
        sched::relax();
    }
}

/// Does the kernel know of no area of the calling thread? Asked with a valid registration of a scratch area; true
/// as well where there is no rseq.
pub fn nothing_registered(ctx: &Ctx<'_>) -> Result<bool, Errno> {
    let mut scratch = Scratch([0; 16]);
    let at = (&raw mut scratch).cast();
    if ctx.facts.rseq.is_err() {
        return Ok(true);
    }
    // SAFETY: rseq (1) on this stack, and unregistered before it goes; (2) nobody's, or it is refused.
    unsafe {
        match rseq(at, 32, 0, arch::SIGNATURE) {
            Ok(()) => rseq(at, 32, 1, arch::SIGNATURE).map(|()| true),
            Err(Errno::INVAL) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

#[repr(C, align(64))]
struct Scratch([u32; 16]);
