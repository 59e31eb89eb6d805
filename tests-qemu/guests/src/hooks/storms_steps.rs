//! A signal at each step: the hooks on a kernel that raises one before and after every call, where a storm would
//! hit once in a thousand threads. And the create hook as it must not be written.

use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed,
};
use linux_raw_sys::general::{SIGSEGV, SIGUSR1, siginfo_t};
use rseq_rt::abi::Rseq;
use rseq_rt::{Area, Kernel, Linux, Owner, Process, State, Trio, arch};

use super::storms_weather::nothing_registered;
use crate::errno::Errno;
use crate::harness::{Ctx, Failed, Needs, Test, Verdict, expect_killed_by};
use crate::sys::mm::{self, Access};
use crate::sys::process;
use crate::sys::rseq::rseq;
use crate::sys::sched::{self, CpuSet};
use crate::sys::signal::{self, Mask};
use crate::{check, hooked, passed, signals};

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("storms/signal-at-each-call", at_each_call),
    Test::new("storms/create-without-second-look-is-fatal", no_second_look)
        .needs(Needs::RSEQ.cpus(2)),
];

const SIGNAL: i32 = SIGUSR1 as i32;
static IN_HANDLER: AtomicBool = AtomicBool::new(false);

/// A signal to the calling thread, which has one thread, but not out of its own handler.
fn raise() {
    if !IN_HANDLER.load(Relaxed) {
        let _ = signal::kill_thread(process::gettid(), SIGNAL);
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

type Answer<T> = Result<T, rseq_rt::Errno>;

// SAFETY: Kernel (1, 2, 3): each call is Linux's own, with a signal before or after it.
unsafe impl Kernel for Interrupted {
    unsafe fn rseq(&self, area: *const Rseq, len: u32, flags: u32, signature: u32) -> Answer<()> {
        // SAFETY: rseq (1) is this function's (1).
        around(|| unsafe { Linux.rseq(area, len, flags, signature) })
    }

    fn set_signal_mask(&self, mask: u64) -> Answer<u64> {
        around(|| Linux.set_signal_mask(mask))
    }

    fn getcpu(&self) -> Answer<(u32, u32)> {
        around(|| Linux.getcpu())
    }

    fn futex_wait(&self, word: &AtomicU32, expected: u32) -> Answer<()> {
        around(|| Linux.futex_wait(word, expected))
    }

    fn slice_yield(&self) -> Answer<bool> {
        around(|| Linux.slice_yield())
    }

    fn probe_write(&self, address: *const AtomicU32) -> Answer<()> {
        around(|| Linux.probe_write(address))
    }

    fn libc_trio(&self) -> Option<Trio> {
        Linux.libc_trio()
    }

    unsafe fn thread_pointer(&self) -> *const u8 {
        // SAFETY: thread_pointer (1) is the caller's.
        unsafe { Linux.thread_pointer() }
    }
}

static PROCESS: Process<Interrupted> = Process::with_kernel(Interrupted);
static AREA: Area = Area::new();
static HANDLED: AtomicU64 = AtomicU64::new(0);
static ILLEGAL: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" fn lazily(_: i32, _: *mut siginfo_t, _: *mut u8) {
    IN_HANDLER.store(true, Relaxed);
    let before = AREA.state();
    // SAFETY: ensure_registered (1, 2) the only thread's area, a static.
    let ensured = unsafe { PROCESS.ensure_registered(&AREA) };
    let after = AREA.state();
    let cpu = PROCESS.current_cpu(&AREA);
    let legal = before == after || before == State::Unregistered;
    if !legal || ensured != Ok(after) || !matches!(cpu, Ok(0..=0xffff)) {
        ILLEGAL.fetch_add(1, Relaxed);
    }
    HANDLED.fetch_add(1, Relaxed);
    IN_HANDLER.store(false, Relaxed);
}

/// Does the kernel know [`AREA`], if the state says so, and nothing otherwise?
fn agrees(ctx: &Ctx<'_>) -> Result<bool, Failed> {
    if AREA.state() != State::Registered(Owner::Runtime) {
        return Ok(nothing_registered(ctx)?);
    }
    let at = (&raw const AREA).cast_mut().cast();
    // SAFETY: rseq (1) a static; (2) changes nothing where it is registered.
    let again = unsafe { rseq(at, PROCESS.length(), 0, arch::SIGNATURE) };
    Ok(again == Err(Errno::BUSY))
}

fn one_life(ctx: &Ctx<'_>, mask: u64, scoped: bool) -> Result<(), Failed> {
    signal::mask(Mask::Exactly(mask))?;
    if scoped {
        // SAFETY: scoped (1, 2, 3) a static, used by the only thread.
        let scope = unsafe { PROCESS.scoped(&AREA) };
        check!(agrees(ctx)?, "in a scope");
        check!(scope.is_ok_and(|scope| scope.end().is_ok()), "a scope");
    } else {
        // SAFETY: on_thread_create (1, 2, 3) as above.
        let Ok(thread) = (unsafe { PROCESS.on_thread_create(&AREA) }) else {
            check!(false, "the create hook");
            return Ok(());
        };
        check!(agrees(ctx)?, "after the create hook");
        check!(signal::blocked()? == mask, "the mask after the create hook");
        let released = hooked::release(thread);
        check!(AREA.state() == State::Exiting, "after the exit hook");
        check!(nothing_registered(ctx)?, "registered after the exit hook");
        let Ok(gone) = released else {
            check!(false, "not released");
            return Ok(());
        };
        // SAFETY: recycle_area (1) signals are blocked.
        unsafe { gone.recycle_area() };
    }
    // Whatever waited is delivered here, and registers what is new again.
    signal::mask(Mask::Exactly(0))?;
    check!(agrees(ctx)?, "between two lives");
    Ok(())
}

fn at_each_call(ctx: &Ctx<'_>) -> Verdict {
    check!(PROCESS.init(hooked::config(ctx.env)) == Ok(None), "init");
    // SAFETY: handle (1) atomics and async-signal-safe calls.
    unsafe { signals::handle(SIGNAL, lazily, 0)? };
    let lives = ctx.scale(5_000, 200, 50);
    for life in 0..lives {
        // Open, and blocked at first.
        let mask = if life % 4 < 2 { 0 } else { signal::bit(SIGNAL) };
        one_life(ctx, mask, life % 2 == 1)?;
    }
    let (handled, illegal) = (HANDLED.load(Relaxed), ILLEGAL.load(Relaxed));
    check!(illegal == 0, illegal, " handlers saw what cannot be");
    // Without rseq there are few calls to interrupt.
    let least = if ctx.facts.rseq.is_ok() { lives } else { 1 };
    check!(handled >= least, "only ", handled, " handlers ran");
    passed!(lives, " lives, ", handled, " handlers")
}

/// What the library would be without the mask and the second look inside it.
mod broken {
    use super::*;

    pub const UNREGISTERED: u8 = 0;
    const REGISTERED: u8 = 1;
    pub const UNAVAILABLE: u8 = 2;

    pub static STATE: AtomicU8 = AtomicU8::new(UNREGISTERED);
    pub static PAGE: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());

    /// Looks with signals open, registers, and sets the state after that.
    pub fn create() {
        if STATE.load(Relaxed) == UNREGISTERED {
            raise();
            // SAFETY: rseq (1) not at all, in the end; (2) nobody's. This is the variant that must die.
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

    /// Lets the area go if the state says that nothing is registered, and lives on.
    pub fn release() -> Result<(), Errno> {
        if STATE.load(Relaxed) == UNAVAILABLE {
            // SAFETY: unmap (1) not at all: the kernel knows it.
            unsafe { mm::unmap(PAGE.load(Relaxed), mm::page_size())? };
        }
        for cpu in sched::allowed()?.iter() {
            sched::allow(0, &CpuSet::one(cpu))?;
        }
        Ok(())
    }
}

fn no_second_look(ctx: &Ctx<'_>) -> Verdict {
    let page = mm::map(mm::page_size(), Access::ReadWrite)?;
    broken::PAGE.store(page, Relaxed);
    // SAFETY: handle (1) atomics and rseq(2).
    unsafe { signals::handle(SIGNAL, broken::handler, 0)? };
    expect_killed_by(SIGSEGV as i32, || {
        broken::create();
        let lies = broken::STATE.load(Relaxed) == broken::UNAVAILABLE
            && nothing_registered(ctx) == Ok(false);
        if !lies || broken::release().is_err() {
            process::exit_group(2);
        }
    })?;
    passed!("the state lied, and the release it led to was fatal")
}
