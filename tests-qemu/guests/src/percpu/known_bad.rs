//! A kernel that says it is one of those that do not abort sections: on aarch64 the crate believes it.

use rseq_rt::percpu::{CpuId, Current, Sections};
use rseq_rt::structures::{Counter, CounterSlot};
use rseq_rt::{Area, Errno as Raw, Kernel, Linux, Process, Trio, abi::Rseq};

use crate::harness::{Ctx, Test, Verdict};
use crate::linux::release;
use crate::{check, hooked, other_calls_of_linux, passed};

/// The family.
pub const TESTS: &[Test] = &[Test::new("percpu/known-bad-kernel", known_bad)];

/// The real kernel, under another version.
pub(super) struct Renamed;

// SAFETY: (1, 2, 3) the real kernel's.
unsafe impl Kernel for Renamed {
    unsafe fn rseq(
        &self,
        area: *const Rseq,
        length: u32,
        flags: u32,
        signature: u32,
    ) -> Result<(), Raw> {
        // SAFETY: (1) the caller's.
        unsafe { Linux.rseq(area, length, flags, signature) }
    }

    fn release(&self) -> Result<[u8; 65], Raw> {
        Ok(release(b"7.0.5-arm64"))
    }

    fn libc_trio(&self) -> Option<Trio> {
        None
    }

    other_calls_of_linux!();
}

static PROCESS: Process<Renamed> = Process::with_kernel(Renamed);
static AREA: Area = Area::new();
static PARTS: [CounterSlot; 64] = [const { CounterSlot::new() }; 64];
static COUNTER: Counter<'static> = Counter::new(&PARTS);

fn known_bad(ctx: &Ctx<'_>) -> Verdict {
    let inited = PROCESS.init(hooked::config(ctx.env));
    check!(inited.is_ok(), "init");
    // SAFETY: on_thread_create (1, 2, 3) the only thread's, static.
    let thread = unsafe { PROCESS.on_thread_create(&AREA) };
    check!(thread.is_ok(), "the create hook");
    let bad = cfg!(target_arch = "aarch64");
    let sections = PROCESS.allow_sections();
    let expected = if bad {
        Sections::KnownBad
    } else {
        Sections::Allowed
    };
    check!(
        sections == expected && PROCESS.sections() == expected,
        "what it says"
    );
    // SAFETY: Process::current (1) this thread's; (2) used for the next line alone.
    let here: Option<Current<'_, CpuId>> = unsafe { PROCESS.current(&AREA) };
    COUNTER.add(here, 3);
    let overflowed = COUNTER.overflowed();
    let runs = !bad && ctx.facts.rseq.is_ok();
    check!(here.is_some() == runs, "who may run sections");
    check!(
        COUNTER.sum() == 3 && overflowed == if runs { 0 } else { 3 },
        "by the overflow slot ",
        overflowed
    );
    // The ids are right there all the same.
    check!(PROCESS.current_cpu(&AREA).is_ok(), "the number of the CPU");
    passed!(if bad {
        "everything by the overflow slot"
    } else {
        "trusted, as on each of this CPU"
    })
}
