//! A signal before and after every call of the hooks, where a storm would hit once in a thousand threads; and the
//! create hook written incorrectly.

use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed,
};
use linux_raw_sys::general::{SIGSEGV, SIGUSR1, siginfo_t};
use rseq_rt::abi::Rseq;
use rseq_rt::{Area, Errno, Kernel, Linux, Owner, Process, State, arch};

use super::storm::nothing_registered;
use crate::harness::{Ctx, must_die, passed};
use crate::hooks::common::Hooks as _;
use crate::sys::mm::{self, Access};
use crate::sys::process;
use crate::sys::rseq::rseq;
use crate::sys::signal::{self, Mask};
use crate::witness::{self, Known};
use crate::{calls_of_linux, hooked, signals};

const SIGNAL: i32 = SIGUSR1 as i32;
static IN_HANDLER: AtomicBool = AtomicBool::new(false);

/// Sends a signal to the calling thread, the only one, except from the handler.
fn raise() {
    if !IN_HANDLER.load(Relaxed) {
        signal::kill_thread(process::gettid(), SIGNAL).unwrap();
    }
}

/// The real kernel, with a signal before and after each call.
#[derive(Debug)]
struct Interrupted;

fn around<R>(call: impl FnOnce() -> R) -> R {
    raise();
    let answer = call();
    raise();
    answer
}

// SAFETY: Kernel (1, 2, 3): each call is Linux's own, with a signal before and after it.
unsafe impl Kernel for Interrupted {
    unsafe fn rseq(
        &self,
        area: *const Rseq,
        length: u32,
        flags: u32,
        signature: u32,
    ) -> Result<(), Errno> {
        // SAFETY: rseq (1) is this function's (1).
        around(|| unsafe { Linux.rseq(area, length, flags, signature) })
    }

    fn set_signal_mask(&self, mask: u64) -> Result<u64, Errno> {
        around(|| Linux.set_signal_mask(mask))
    }

    fn getcpu(&self) -> Result<(u32, u32), Errno> {
        around(|| Linux.getcpu())
    }

    fn futex_wait(&self, word: &AtomicU32, expected: u32) -> Result<(), Errno> {
        around(|| Linux.futex_wait(word, expected))
    }

    fn slice_yield(&self) -> Result<bool, Errno> {
        around(|| Linux.slice_yield())
    }

    fn probe_write(&self, address: *const AtomicU32) -> Result<(), Errno> {
        around(|| Linux.probe_write(address))
    }

    calls_of_linux!(libc_trio thread_pointer);
}

static PROCESS: Process<Interrupted> = Process::with_kernel(Interrupted);
static AREA: Area = Area::new();
static HANDLED: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" fn lazily(_: i32, _: *mut siginfo_t, _: *mut u8) {
    IN_HANDLER.store(true, Relaxed);
    let before = AREA.state();
    let ensured = PROCESS.ensure(&AREA);
    let after = AREA.state();
    assert!(before == after || before == State::Unregistered);
    assert_eq!(ensured, Ok(after));
    let cpu = PROCESS.current_cpu(&AREA);
    assert!(matches!(cpu, Ok(0..=0xffff)), "{cpu:?} is no CPU");
    HANDLED.fetch_add(1, Relaxed);
    IN_HANDLER.store(false, Relaxed);
}

/// The kernel knows [`AREA`] if the state says so, and nothing otherwise.
#[track_caller]
fn assert_agrees(ctx: &Ctx<'_>) {
    match AREA.state() {
        State::Registered(Owner::Runtime) => {
            assert!(witness::ask(&AREA, PROCESS.length()) == Known::This);
        }
        _ => assert!(nothing_registered(ctx)),
    }
}

fn live(ctx: &Ctx<'_>, mask: u64) {
    let thread = PROCESS.create(&AREA).unwrap();
    assert_agrees(ctx);
    assert_eq!(signal::blocked(), Ok(mask), "after the create hook");
    let released = hooked::release(thread);
    assert_eq!(AREA.state(), State::Exiting);
    assert!(nothing_registered(ctx), "after the exit hook");
    // SAFETY: recycle_area (1) signals are blocked.
    unsafe { released.unwrap().recycle_area() };
}

fn live_in_scope(ctx: &Ctx<'_>) {
    let scope = PROCESS.scope(&AREA);
    assert_agrees(ctx);
    scope.unwrap().end().unwrap();
}

pub(super) fn at_each_call(ctx: &Ctx<'_>) {
    assert_eq!(PROCESS.init(hooked::config(ctx.env)), Ok(None));
    // SAFETY: handle (1) atomics and async-signal-safe calls.
    unsafe { signals::handle(SIGNAL, lazily, 0) }.unwrap();
    let lives = ctx.scale(5_000, 200, 50);
    for life in 0..lives {
        // Unblocked, and blocked at first.
        let mask = if life % 4 < 2 { 0 } else { signal::bit(SIGNAL) };
        signal::mask(Mask::Exactly(mask)).unwrap();
        match life % 2 {
            0 => live(ctx, mask),
            _ => live_in_scope(ctx),
        }
        // Pending signals are delivered here, and register again.
        signal::mask(Mask::Exactly(0)).unwrap();
        assert_agrees(ctx);
    }
    let handled = HANDLED.load(Relaxed);
    // Without rseq there are few calls to interrupt.
    let least = if ctx.facts.rseq.is_ok() { lives } else { 1 };
    assert!(handled >= least, "only {handled} handlers ran");
    passed!("{lives} lives, {handled} handlers");
}

/// The hooks without the mask, and without the second check under it.
mod broken {
    use super::*;

    pub const UNREGISTERED: u8 = 0;
    const REGISTERED: u8 = 1;
    pub const UNAVAILABLE: u8 = 2;

    pub static STATE: AtomicU8 = AtomicU8::new(UNREGISTERED);
    pub static PAGE: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());

    /// Checks with signals open, registers, and sets the state after that.
    pub fn create() {
        if STATE.load(Relaxed) == UNREGISTERED {
            raise();
            // SAFETY: rseq (1) violated in the end; (2) nobody's. This is the variant that must die.
            let answer = unsafe { rseq(PAGE.load(Relaxed), 32, 0, arch::SIGNATURE) };
            let state = answer.map_or(UNAVAILABLE, |()| REGISTERED);
            STATE.store(state, Relaxed);
        }
    }

    pub unsafe extern "C" fn handler(_: i32, _: *mut siginfo_t, _: *mut u8) {
        IN_HANDLER.store(true, Relaxed);
        create();
        IN_HANDLER.store(false, Relaxed);
    }

    /// Unmaps the area if the state says that nothing is registered, and lives on.
    pub fn release() {
        if STATE.load(Relaxed) == UNAVAILABLE {
            // SAFETY: unmap (1) violated: the kernel knows it.
            unsafe { mm::unmap(PAGE.load(Relaxed), mm::page_size()) }.unwrap();
        }
        witness::migrate(witness::cpus());
    }
}

pub(super) fn no_second_look(ctx: &Ctx<'_>) {
    let page = mm::map(mm::page_size(), Access::ReadWrite).unwrap();
    broken::PAGE.store(page, Relaxed);
    // SAFETY: handle (1) atomics and rseq(2).
    unsafe { signals::handle(SIGNAL, broken::handler, 0) }.unwrap();
    must_die(SIGSEGV as i32, || {
        broken::create();
        assert_eq!(broken::STATE.load(Relaxed), broken::UNAVAILABLE);
        assert!(!nothing_registered(ctx));
        broken::release();
    });
    passed!("the state lied, and the release it led to was fatal");
}
