//! Requests for a time slice on a kernel that the test plays: it grants when it is told to, so that each order is met.

use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicU32};

use rseq_rt::abi::{
    CPU_ID_UNINITIALIZED, CS_FLAG_SLICE_EXT_ENABLED, FLAG_UNREGISTER, Rseq, SLICE_GRANTED,
    SLICE_REQUEST,
};
use rseq_rt::{Area, Claim, Config, Errno, Kernel, Linux, Process, SliceEnd, Trio};

use crate::check;
use crate::harness::{Ctx, Failed, PASSED, Verdict, failed};
use crate::sys::process;
use crate::sys::signal::kill_thread;
use crate::{signals, text, witness};
use linux_raw_sys::general::{SIGUSR1, siginfo_t};

/// What rseq_slice_yield(2) is to say.
static IN_TIME: AtomicBool = AtomicBool::new(true);
static YIELDS: AtomicU32 = AtomicU32::new(0);

#[derive(Debug)]
struct Played;

type Answer<T> = Result<T, Errno>;

// SAFETY: Kernel (1) nobody writes to the area; (2) Linux's own; (3) there is no trio.
unsafe impl Kernel for Played {
    unsafe fn rseq(&self, area: *const Rseq, _: u32, flags: u32, _: u32) -> Answer<()> {
        // SAFETY: Kernel::rseq (1): an area.
        let area = unsafe { &*area };
        let registers = flags & FLAG_UNREGISTER == 0;
        let cpu = if registers { 1 } else { CPU_ID_UNINITIALIZED };
        area.cpu_id.store(cpu, Relaxed);
        area.flags.store(CS_FLAG_SLICE_EXT_ENABLED, Relaxed);
        Ok(())
    }

    fn set_signal_mask(&self, mask: u64) -> Answer<u64> {
        Linux.set_signal_mask(mask)
    }

    fn getcpu(&self) -> Answer<(u32, u32)> {
        Linux.getcpu()
    }

    fn futex_wait(&self, word: &AtomicU32, expected: u32) -> Answer<()> {
        Linux.futex_wait(word, expected)
    }

    fn slice_yield(&self) -> Answer<bool> {
        YIELDS.fetch_add(1, Relaxed);
        control().store(0, Relaxed);
        Ok(IN_TIME.load(Relaxed))
    }

    fn probe_write(&self, address: *const AtomicU32) -> Answer<()> {
        Linux.probe_write(address)
    }

    fn libc_trio(&self) -> Option<Trio> {
        None
    }

    unsafe fn thread_pointer(&self) -> *const u8 {
        // SAFETY: thread_pointer (1) is this function's.
        unsafe { Linux.thread_pointer() }
    }
}

static PROCESS: Process<Played> = Process::with_kernel(Played);
static AREA: Area = Area::new();

fn control() -> &'static AtomicU32 {
    &witness::rseq_of(&AREA).slice_ctrl
}

fn is(expected: u32) -> Result<(), Failed> {
    let seen = control().load(Relaxed);
    check!(seen == expected, "the control word reads ", seen);
    Ok(())
}

fn ends(request: rseq_rt::SliceRequest, expected: SliceEnd) -> Result<(), Failed> {
    let end = AREA.yield_slice_on(&Played, request);
    check!(end == expected, "another end");
    Ok(())
}

/// One request and one inside it, with the grant before, between and after them.
fn one(granted: Option<usize>, in_time: bool) -> Result<(), Failed> {
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
    is(at(0))?;
    let inner = AREA.request_slice();
    is(at(0))?;
    grant(1);
    let innermost = AREA.request_slice();
    is(at(1))?;
    ends(innermost, SliceEnd::Nested)?;
    grant(2);
    ends(inner, SliceEnd::Nested)?;
    is(at(2))?;
    let expected = match (granted, in_time) {
        (None, _) => SliceEnd::NotNeeded,
        (Some(_), true) => SliceEnd::Yielded,
        (Some(_), false) => SliceEnd::Revoked,
    };
    ends(outer, expected)?;
    is(0)
}

/// A request that stands is no other's to repeat or to end, and what the kernel says of the grant is what is told.
pub(super) fn nested(_: &Ctx<'_>) -> Verdict {
    let config = Config::new(Some(33), Some(64)).claim(Claim::Runtime);
    check!(PROCESS.init(config.slice_extension()) == Ok(None), "init");
    // SAFETY: on_thread_create (1, 2, 3) the only thread's, static.
    let Ok(thread) = (unsafe { PROCESS.on_thread_create(&AREA) }) else {
        check!(false, "create");
        return PASSED;
    };
    check!(AREA.has_slice_extension(), "not armed");
    for granted in [None, Some(0), Some(1), Some(2)] {
        for in_time in [true, false] {
            let before = YIELDS.load(Relaxed);
            one(granted, in_time)?;
            let yields = YIELDS.load(Relaxed) - before;
            check!(yields == u32::from(granted.is_some()), yields, " calls");
        }
    }
    // Granted and revoked before the end: nothing is left to give back.
    let request = AREA.request_slice();
    control().store(0, Relaxed);
    ends(request, SliceEnd::Revoked)?;
    in_a_handler()?;
    let lent = thread.lend();
    let request = AREA.request_slice();
    is(0)?;
    ends(request, SliceEnd::Off)?;
    lent.end();
    check!(AREA.has_slice_extension(), "lost by a loan");
    PASSED
}

/// A handler in the section, with a section of its own.
fn in_a_handler() -> Result<(), Failed> {
    unsafe extern "C" fn requests(_: i32, _: *mut siginfo_t, _: *mut u8) {
        let before = control().load(Relaxed);
        let request = AREA.request_slice();
        let end = AREA.yield_slice_on(&Played, request);
        if end != SliceEnd::Nested || control().load(Relaxed) != before {
            let _ = failed(text!("a handler's request changed ours"));
        }
    }
    // SAFETY: handle (1) atomics alone.
    unsafe { signals::handle(SIGUSR1 as i32, requests, 0)? };
    for granted in [false, true] {
        IN_TIME.store(true, Relaxed);
        let request = AREA.request_slice();
        if granted {
            control().store(SLICE_GRANTED, Relaxed);
        }
        kill_thread(process::gettid(), SIGUSR1 as i32)?;
        let expected = match granted {
            true => SliceEnd::Yielded,
            false => SliceEnd::NotNeeded,
        };
        ends(request, expected)?;
    }
    Ok(())
}
