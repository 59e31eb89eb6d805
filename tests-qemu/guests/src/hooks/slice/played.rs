//! Requests for a time slice on a fake kernel, which grants at the test's command, so that each order occurs.

use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicU32};

use linux_raw_sys::general::{SIGUSR1, siginfo_t};
use rseq_rt::abi::{
    CPU_ID_UNINITIALIZED, CS_FLAG_SLICE_EXT_ENABLED, FLAG_UNREGISTER, Rseq, SLICE_GRANTED,
    SLICE_REQUEST,
};
use rseq_rt::{Area, Claim, Config, Errno, Kernel, Process, SliceEnd};

use crate::harness::Ctx;
use crate::hooks::common::Hooks as _;
use crate::sys::process;
use crate::sys::signal::kill_thread;
use crate::{calls_of_linux, signals, witness};

/// The answer of rseq_slice_yield(2).
static IN_TIME: AtomicBool = AtomicBool::new(true);
static YIELDS: AtomicU32 = AtomicU32::new(0);

#[derive(Debug)]
struct Played;

// SAFETY: Kernel (1) nobody writes to the area; (2, 3) Linux's own.
unsafe impl Kernel for Played {
    unsafe fn rseq(&self, area: *const Rseq, _: u32, flags: u32, _: u32) -> Result<(), Errno> {
        // SAFETY: Kernel::rseq (1): an area.
        let area = unsafe { &*area };
        let registers = flags & FLAG_UNREGISTER == 0;
        let cpu = if registers { 1 } else { CPU_ID_UNINITIALIZED };
        area.cpu_id.store(cpu, Relaxed);
        area.flags.store(CS_FLAG_SLICE_EXT_ENABLED, Relaxed);
        Ok(())
    }

    fn slice_yield(&self) -> Result<bool, Errno> {
        YIELDS.fetch_add(1, Relaxed);
        control().store(0, Relaxed);
        Ok(IN_TIME.load(Relaxed))
    }

    calls_of_linux!(set_signal_mask getcpu futex_wait probe_write libc_trio thread_pointer);
}

static PROCESS: Process<Played> = Process::with_kernel(Played);
static AREA: Area = Area::new();

fn control() -> &'static AtomicU32 {
    &witness::rseq_of(&AREA).slice_ctrl
}

#[track_caller]
fn assert_control(expected: u32) {
    assert_eq!(control().load(Relaxed), expected, "the control word");
}

#[track_caller]
fn assert_end(request: rseq_rt::SliceRequest, expected: SliceEnd) {
    assert_eq!(AREA.yield_slice_on(&Played, request), expected);
}

/// One request with two nested ones, and the grant before, between or after them.
fn one(granted: Option<usize>, in_time: bool) {
    IN_TIME.store(in_time, Relaxed);
    let grant = |now| {
        if granted == Some(now) {
            control().store(SLICE_GRANTED, Relaxed);
        }
    };
    let at = |now| match granted {
        Some(when) if when <= now => SLICE_GRANTED,
        _ => SLICE_REQUEST,
    };
    let outer = AREA.request_slice();
    grant(0);
    assert_control(at(0));
    let inner = AREA.request_slice();
    assert_control(at(0));
    grant(1);
    let innermost = AREA.request_slice();
    assert_control(at(1));
    assert_end(innermost, SliceEnd::Nested);
    grant(2);
    assert_end(inner, SliceEnd::Nested);
    assert_control(at(2));
    let expected = match (granted, in_time) {
        (None, _) => SliceEnd::NotNeeded,
        (Some(_), true) => SliceEnd::Yielded,
        (Some(_), false) => SliceEnd::Revoked,
    };
    assert_end(outer, expected);
    assert_control(0);
}

/// A pending request is neither repeated nor ended by a nested one, and the reported end is the kernel's answer.
pub(super) fn nested(_: &Ctx<'_>) {
    let config = Config::new(Some(33), Some(64)).claim(Claim::Runtime);
    assert_eq!(PROCESS.init(config.slice_extension()), Ok(None));
    let thread = PROCESS.create(&AREA).unwrap();
    assert!(AREA.has_slice_extension(), "not armed");
    for granted in [None, Some(0), Some(1), Some(2)] {
        for in_time in [true, false] {
            let before = YIELDS.load(Relaxed);
            one(granted, in_time);
            let yields = YIELDS.load(Relaxed) - before;
            assert_eq!(yields, u32::from(granted.is_some()), "calls");
        }
    }
    // Granted and revoked before the end: there is nothing to give back.
    let request = AREA.request_slice();
    control().store(0, Relaxed);
    assert_end(request, SliceEnd::Revoked);
    in_a_handler();
    let lent = thread.lend();
    let request = AREA.request_slice();
    assert_control(0);
    assert_end(request, SliceEnd::Off);
    lent.end();
    assert!(AREA.has_slice_extension(), "lost by a loan");
}

/// A handler inside the section, with its own section.
fn in_a_handler() {
    unsafe extern "C" fn requests(_: i32, _: *mut siginfo_t, _: *mut u8) {
        let before = control().load(Relaxed);
        assert_end(AREA.request_slice(), SliceEnd::Nested);
        assert_control(before);
    }
    // SAFETY: handle (1) only atomics.
    unsafe { signals::handle(SIGUSR1 as i32, requests, 0) }.unwrap();
    for (granted, expected) in [(false, SliceEnd::NotNeeded), (true, SliceEnd::Yielded)] {
        IN_TIME.store(true, Relaxed);
        let request = AREA.request_slice();
        if granted {
            control().store(SLICE_GRANTED, Relaxed);
        }
        kill_thread(process::gettid(), SIGUSR1 as i32).unwrap();
        assert_end(request, expected);
    }
}
