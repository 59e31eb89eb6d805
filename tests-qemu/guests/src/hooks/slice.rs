//! The time-slice extension: off unless asked for, armed by the hook, and no harm where it is lacking.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use rseq_rt::abi::{
    CS_FLAG_SLICE_EXT_AVAILABLE, CS_FLAG_SLICE_EXT_ENABLED, NR_RSEQ_SLICE_YIELD, SLICE_GRANTED,
    SLICE_REQUEST,
};
use rseq_rt::{Area, Config, Owner, SliceEnd, State, Thread};

use super::v2::begin;
use crate::errno::Errno;
use crate::harness::{Ctx, Failed, Needs, PASSED, Test, Verdict, forked};
use crate::hooked::{self, Hooked, RSEQ};
use crate::seccomp::{self, Answer, When};
use crate::sys::process::{self, Status, exit_group};
use crate::sys::sched::{self, CpuSet};
use crate::sys::time::{self, Span};
use crate::{check, passed, skip, witness};

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("slice/off-by-default", off).needs(Needs::SECCOMP),
    Test::new("slice/asked-for-where-it-is-lacking", lacking).needs(Needs::RSEQ),
    Test::new(
        "slice/requests-nest-at-each-grant",
        super::slice_played::nested,
    ),
    Test::new("slice/armed-by-the-hook", armed).needs(Needs::V2),
    Test::new("slice/request-and-yield-under-load", under_load).needs(Needs::V2),
];

const STACK: usize = 32 * 1024;
// linux/prctl.h of 7.0, and ENOTSUPP, which the kernel lets out by mistake.
const PR_RSEQ_SLICE_EXTENSION: u32 = 79;
const GET: usize = 1;
const NOT_SUPPORTED: Errno = Errno(524);

/// PR_RSEQ_SLICE_EXTENSION_GET of the calling thread.
fn enabled() -> Result<usize, Errno> {
    // SAFETY: no pointer among the arguments.
    unsafe { process::prctl(PR_RSEQ_SLICE_EXTENSION, GET, 0, 0, 0) }
}

/// The control word: a request, a grant, never both.
fn control(area: &Area) -> u32 {
    witness::rseq_of(area).slice_ctrl.load(Relaxed)
}

/// Off: no store, no call, and the answer says so.
fn is_off(area: &Area) -> Result<(), Failed> {
    check!(!area.has_slice_extension(), "the extension is on");
    let request = area.request_slice();
    check!(control(area) == 0, "a request was made");
    let inner = area.request_slice();
    check!(area.yield_slice(inner) == SliceEnd::Off, "an inner one");
    check!(area.yield_slice(request) == SliceEnd::Off, "not Off");
    Ok(())
}

fn off(ctx: &Ctx<'_>) -> Verdict {
    fn body(thread: &Thread<'_>, _: &Hooked) {
        let _ = is_off(thread.area());
    }
    // Whoever calls it dies.
    seccomp::install(NR_RSEQ_SLICE_YIELD as u32, When::Always, Answer::Kill)?;
    is_off(&Area::new())?;
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    // SAFETY: (1) once in this process, on its main thread.
    let Ok(thread) = (unsafe { hooked::adopt_main() }) else {
        check!(false, "the create hook");
        return PASSED;
    };
    is_off(thread.area())?;
    check!(
        hooked::start_joinable(STACK, body, 0)?.join().is_ok(),
        "join"
    );
    is_off(thread.area())?;
    PASSED
}

/// Asked for with a length that cannot have it, and on kernels that do not know it: as if not asked.
fn lacking(ctx: &Ctx<'_>) -> Verdict {
    let config = hooked::config(ctx.env).slice_extension();
    let look = |config: Config| {
        let run = || -> Result<(), Failed> {
            let area = begin(config)?;
            check!(RSEQ.length() == config.length(), "another length");
            is_off(area)?;
            let wrong = witness::first_wrong(witness::cpus(), area);
            check!(wrong.is_none(), "wrong on CPU ", wrong.unwrap_or(0));
            let answer = enabled();
            let none = matches!(answer, Ok(0) | Err(Errno::INVAL | NOT_SUPPORTED));
            check!(none || answer == Err(NO_EXTENSION), "prctl says ", answer);
            Ok(())
        };
        forked(|| exit_group(run().is_err().into()))
    };
    let legacy = look(config.legacy_length())?;
    check!(legacy == Status::Exited(0), "length 32: ", legacy);
    if config.length() > 32 {
        return passed!("with length 32 on a kernel of longer ones");
    }
    let status = look(config)?;
    check!(status == Status::Exited(0), "asked for: ", status);
    passed!("a kernel without it")
}

/// ENXIO: the kernel says so where it was switched off at boot, or nothing is registered.
const NO_EXTENSION: Errno = Errno(linux_raw_sys::errno::ENXIO);

/// The kernel has the extension and lets it be used: its own word, in the area.
fn available(area: &Area) -> bool {
    witness::rseq_of(area).flags.load(Relaxed) & CS_FLAG_SLICE_EXT_AVAILABLE != 0
}

fn unavailable() -> Verdict {
    match enabled() {
        Err(NOT_SUPPORTED | Errno::INVAL) => {
            skip!("this kernel is built without CONFIG_RSEQ_SLICE_EXTENSION")
        }
        answer => skip!("the slice extension is switched off: prctl says ", answer),
    }
}

fn is_armed(area: &Area) -> Result<(), Failed> {
    let registered = area.state() == State::Registered(Owner::Runtime);
    check!(registered && area.has_slice_extension(), "not armed");
    let flags = witness::rseq_of(area).flags.load(Relaxed);
    check!(
        flags & CS_FLAG_SLICE_EXT_ENABLED != 0,
        "the flags are ",
        flags
    );
    let answer = enabled();
    check!(answer == Ok(1), "prctl says ", answer);
    let request = area.request_slice();
    let end = area.yield_slice(request);
    check!(
        !matches!(end, SliceEnd::Off | SliceEnd::Nested),
        "an outer request is off, or nested"
    );
    Ok(())
}

fn armed(ctx: &Ctx<'_>) -> Verdict {
    fn body(thread: &Thread<'_>, _: &Hooked) {
        let _ = is_armed(thread.area());
    }
    let area = begin(hooked::config(ctx.env).slice_extension())?;
    if !available(area) {
        is_off(area)?;
        return unavailable();
    }
    is_armed(area)?;
    for _ in 0..ctx.scale(50, 10, 0) {
        check!(
            hooked::start_joinable(STACK, body, 0)?.join().is_ok(),
            "join"
        );
    }
    // Lost with each registration, and armed anew with each.
    fn scopes() -> Result<(), Failed> {
        let scratch = Area::new();
        for _ in 0..3 {
            // SAFETY: (1, 2, 3) ended before the memory is.
            let Ok(scoped) = (unsafe { RSEQ.scoped(&scratch) }) else {
                check!(false, "create");
                return Ok(());
            };
            is_armed(&scratch)?;
            check!(scoped.end().is_ok(), "end");
            is_off(&scratch)?;
            let answer = enabled();
            check!(answer != Ok(1), "enabled without a registration");
        }
        Ok(())
    }
    let bare = crate::thread::start(STACK, (), |()| _ = scopes())?;
    bare.join()?;
    PASSED
}

fn under_load(ctx: &Ctx<'_>) -> Verdict {
    static OVER: AtomicU32 = AtomicU32::new(0);
    fn competes(_: &Thread<'_>, hooked: &Hooked) {
        let _ = sched::allow(0, &CpuSet::one(hooked.argument as u32));
        while OVER.load(Relaxed) == 0 {
            // Sleeps a little, so that its wake-ups want the CPU.
            let _ = time::sleep(Span::micros(20));
        }
    }
    let area = begin(hooked::config(ctx.env).slice_extension())?;
    if !available(area) {
        return unavailable();
    }
    let Some(cpu) = witness::cpus().iter().next() else {
        return skip!("no CPU");
    };
    sched::allow(0, &CpuSet::one(cpu))?;
    let rivals: [_; 2] =
        core::array::from_fn(|_| hooked::start_joinable(STACK, competes, cpu as usize));
    let (mut not_needed, mut yielded, mut revoked) = (0u64, 0u64, 0u64);
    for round in 0..ctx.scale(20_000, 6_000, 0) {
        let end = time::now().0 + Span::micros(round % 64).0;
        let request = area.request_slice();
        // One in four asks the clock by a system call, which ends an extension.
        while round % 4 == 0 && time::now().0 < end {}
        for _ in 0..(round % 512) * 16 {
            core::hint::spin_loop();
        }
        // A library's own section inside: asked for again, with a grant out, the kernel's debug mode kills.
        let inner = area.request_slice();
        let both = SLICE_REQUEST | SLICE_GRANTED;
        check!(control(area) & both != both, "a request and a grant");
        // Where the outer one is over, revoked, the inner one is a request of its own.
        let end = area.yield_slice(inner);
        check!(end != SliceEnd::Off, "an inner request in round ", round);
        match area.yield_slice(request) {
            SliceEnd::NotNeeded => not_needed += 1,
            SliceEnd::Yielded => yielded += 1,
            SliceEnd::Revoked => revoked += 1,
            SliceEnd::Off | SliceEnd::Nested => check!(false, "not an outer one in round ", round),
        }
    }
    OVER.store(1, Relaxed);
    for rival in rivals {
        check!(rival?.join().is_ok(), "join");
    }
    passed!(
        not_needed,
        " not needed, ",
        yielded,
        " yielded, ",
        revoked,
        " revoked"
    )
}
