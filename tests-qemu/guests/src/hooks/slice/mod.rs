//! The time-slice extension: off by default, enabled by the hook, and harmless where unavailable.

mod libc;
mod played;

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use rseq_rt::abi::{
    CS_FLAG_SLICE_EXT_AVAILABLE, CS_FLAG_SLICE_EXT_ENABLED, NR_RSEQ_SLICE_YIELD, SLICE_GRANTED,
    SLICE_REQUEST,
};
use rseq_rt::{Area, Config, Owner, SliceEnd, State, Thread};

use super::common::{Hooks as _, joined, main_thread, right_everywhere};
use super::linux7::begin;
use crate::errno::{Errno, errno};
use crate::harness::{Ctx, Needs, Test, must_pass, passed, skip};
use crate::hooked::{self, Hooked, RSEQ};
use crate::seccomp::{self, Answer, When};
use crate::sys::process;
use crate::sys::sched::{self, CpuSet};
use crate::sys::time::{self, Span};
use crate::{thread, witness};

pub const TESTS: &[Test] = &[
    Test::new("slice/off-by-default", off).needs(Needs::SECCOMP),
    Test::new("slice/asked-for-where-it-is-lacking", lacking).needs(Needs::RSEQ),
    Test::new("slice/requests-nest-at-each-grant", played::nested),
    Test::new("slice/armed-by-the-hook", armed).needs(Needs::V2),
    Test::new("slice/libc-area", libc::switched_on).needs(Needs::V2),
    Test::new("slice/libc-area-of-32-bytes", libc::refused).needs(Needs::RSEQ),
    Test::new("slice/request-and-yield-under-load", under_load).needs(Needs::V2),
];

const STACK: usize = 32 * 1024;
// linux/prctl.h of 7.0, and ENOTSUPP, which the kernel leaks by mistake.
const PR_RSEQ_SLICE_EXTENSION: u32 = 79;
const GET: usize = 1;
const NOT_SUPPORTED: Errno = Errno(524);
/// The extension was disabled at boot, or nothing is registered.
const NO_EXTENSION: Errno = Errno(errno::ENXIO);

/// PR_RSEQ_SLICE_EXTENSION_GET of the calling thread.
fn enabled() -> Result<usize, Errno> {
    // SAFETY: no pointer among the arguments.
    unsafe { process::prctl(PR_RSEQ_SLICE_EXTENSION, GET, 0, 0, 0) }
}

/// The control word: a request or a grant, never both.
fn control(area: &Area) -> u32 {
    witness::rseq_of(area).slice_ctrl.load(Relaxed)
}

/// Off: no store, no call, and the answer is `Off`.
fn assert_off(area: &Area) {
    assert!(!area.has_slice_extension(), "the extension is on");
    let request = area.request_slice();
    assert_eq!(control(area), 0, "a request was made");
    let inner = area.request_slice();
    assert_eq!(area.yield_slice(inner), SliceEnd::Off);
    assert_eq!(area.yield_slice(request), SliceEnd::Off);
}

fn off(ctx: &Ctx<'_>) {
    fn body(thread: &Thread<'_>, _: &Hooked) {
        assert_off(thread.area());
    }
    // Calling it is fatal from here on.
    seccomp::install(NR_RSEQ_SLICE_YIELD as u32, When::Always, Answer::Kill).unwrap();
    assert_off(&Area::new());
    let thread = main_thread(ctx);
    assert_off(thread.area());
    joined(STACK, body, 0);
    assert_off(thread.area());
}

/// Requested with a length that cannot have it, and on kernels without it: as if not requested.
fn lacking(ctx: &Ctx<'_>) {
    let config = hooked::config(ctx.env).slice_extension();
    let look = |config: Config| {
        must_pass(|| {
            let area = begin(config);
            assert_eq!(RSEQ.length(), config.length());
            assert_off(area);
            right_everywhere(area);
            assert!(matches!(
                enabled(),
                Ok(0) | Err(Errno::INVAL | NOT_SUPPORTED | NO_EXTENSION)
            ));
        });
    };
    look(config.legacy_length());
    if config.length() > 32 {
        passed!("with length 32 on a kernel of longer ones");
    } else {
        look(config);
        passed!("a kernel without it");
    }
}

/// The main thread of a process that enables the extension. Skips the test where the kernel lacks it or forbids its
/// use, according to the area.
fn begin_with_slice(ctx: &Ctx<'_>) -> &'static Area {
    let area = begin(hooked::config(ctx.env).slice_extension());
    if witness::rseq_of(area).flags.load(Relaxed) & CS_FLAG_SLICE_EXT_AVAILABLE != 0 {
        return area;
    }
    assert_off(area);
    match enabled() {
        Err(NOT_SUPPORTED | Errno::INVAL) => {
            skip!("this kernel is built without CONFIG_RSEQ_SLICE_EXTENSION")
        }
        answer => skip!("the slice extension is switched off: prctl answers {answer:?}"),
    }
}

fn assert_armed(area: &Area) {
    assert_eq!(area.state(), State::Registered(Owner::Runtime));
    assert!(area.has_slice_extension(), "not armed");
    let flags = witness::rseq_of(area).flags.load(Relaxed);
    assert_ne!(flags & CS_FLAG_SLICE_EXT_ENABLED, 0, "{flags:#x}");
    assert_eq!(enabled(), Ok(1));
    let request = area.request_slice();
    let end = area.yield_slice(request);
    assert!(!matches!(end, SliceEnd::Off | SliceEnd::Nested), "{end:?}");
}

fn armed(ctx: &Ctx<'_>) {
    fn body(thread: &Thread<'_>, _: &Hooked) {
        assert_armed(thread.area());
    }
    /// Lost with each registration, and enabled anew with each.
    fn scopes(scratch: &Area) {
        for _ in 0..3 {
            let scoped = RSEQ.scope(scratch).unwrap();
            assert_armed(scratch);
            scoped.end().unwrap();
            assert_off(scratch);
            assert_ne!(enabled(), Ok(1), "enabled without a registration");
        }
    }
    assert_armed(begin_with_slice(ctx));
    for _ in 0..ctx.scale(50, 10, 0) {
        joined(STACK, body, 0);
    }
    thread::run(STACK, Area::new(), scopes);
}

fn under_load(ctx: &Ctx<'_>) {
    static OVER: AtomicU32 = AtomicU32::new(0);
    fn competes(_: &Thread<'_>, hooked: &Hooked) {
        sched::allow(0, &CpuSet::one(hooked.argument as u32)).unwrap();
        while OVER.load(Relaxed) == 0 {
            // Sleeps briefly, so that its wake-ups compete for the CPU.
            let _ = time::sleep(Span::micros(20));
        }
    }
    let area = begin_with_slice(ctx);
    let cpu = witness::cpus().iter().next().unwrap();
    sched::allow(0, &CpuSet::one(cpu)).unwrap();
    let rivals: [_; 2] =
        core::array::from_fn(|_| hooked::start_joinable(STACK, competes, cpu as usize).unwrap());
    let (mut not_needed, mut yielded, mut revoked) = (0u64, 0u64, 0u64);
    for round in 0..ctx.scale(20_000, 6_000, 0) {
        let end = time::now().0 + Span::micros(round % 64).0;
        let request = area.request_slice();
        // One in four reads the clock by a system call, which ends an extension.
        while round % 4 == 0 && time::now().0 < end {}
        for _ in 0..(round % 512) * 16 {
            core::hint::spin_loop();
        }
        // A library's own section inside: a second request while granted would be fatal in the kernel's debug mode.
        let inner = area.request_slice();
        let both = SLICE_REQUEST | SLICE_GRANTED;
        assert_ne!(control(area) & both, both, "a request and a grant");
        // If the outer request was revoked, the inner one is a new request.
        assert_ne!(area.yield_slice(inner), SliceEnd::Off, "round {round}");
        match area.yield_slice(request) {
            SliceEnd::NotNeeded => not_needed += 1,
            SliceEnd::Yielded => yielded += 1,
            SliceEnd::Revoked => revoked += 1,
            end => panic!("{end:?} of an outer request in round {round}"),
        }
    }
    OVER.store(1, Relaxed);
    for rival in rivals {
        rival.join().unwrap();
    }
    passed!("{not_needed} not needed, {yielded} yielded, {revoked} revoked");
}
