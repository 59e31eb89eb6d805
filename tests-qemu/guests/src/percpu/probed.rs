//! The probe whether the kernel aborts sections: on this kernel, on one that does not, and without a second thread.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::general::{SIGUSR1, siginfo_t};
use rseq_rt::percpu::{Cause, CpuId, Probed, SectionProbe, SectionSupport, VouchedBy};
use rseq_rt::{Area, Kernel, Process};

use super::known_bad::Renamed;
use super::unprotected::Pretending;
use crate::harness::{Ctx, Needs, Test, passed};
use crate::hooked::{self, RSEQ};
use crate::hooks::common::Hooks as _;
use crate::sys::{process, sched};
use crate::{signals, thread};

pub const TESTS: &[Test] = &[
    Test::new("percpu/probe", probe),
    Test::new("percpu/probe-with-a-blocked-signal", blocked).needs(Needs::RSEQ),
    Test::new("percpu/probe-of-a-kernel-that-never-aborts", never),
    Test::new("percpu/probe-overrules-the-name", renamed).needs(Needs::RSEQ),
    Test::new("percpu/probe-alone", alone),
];

const STACK: usize = 64 * 1024;

/// A thread lent to a probe.
struct Lent<K: Kernel + 'static> {
    process: &'static Process<K>,
    probe: &'static SectionProbe,
    found: AtomicU32,
    /// Whether it may run sections afterwards.
    runs: AtomicU32,
}

/// The result as a non-zero number, with the causes tried.
fn code(found: Probed) -> u32 {
    match found {
        Probed::Aborted(causes) => {
            let has = |&(cause, bit): &(Cause, u32)| causes.has(cause).then_some(bit);
            let bits = [
                (Cause::Preemption, 1),
                (Cause::Migration, 2),
                (Cause::Fence, 4),
                (Cause::Signal, 8),
            ];
            100 + bits.iter().filter_map(has).sum::<u32>()
        }
        Probed::Committed(cause) => 200 + cause as u32,
        Probed::Unavailable => 300,
        _ => 400,
    }
}

const ABORTED_BY_PREEMPTION: u32 = 101;
const ABORTED_BY_ALL_BUT_A_SIGNAL: u32 = 107;
const ABORTED_BY_ALL: u32 = 115;
const COMMITTED: u32 = 200;
const UNAVAILABLE: u32 = 300;
const UNDECIDED: u32 = 400;

fn lent<K: Kernel>(lent: &Lent<K>) {
    let area = Area::new();
    let before = sched::allowed();
    let _scope = lent.process.scope(&area).unwrap();
    // SAFETY: probe_sections (1) this thread's own.
    let found = unsafe { lent.process.probe_sections(&area, lent.probe) };
    lent.found.store(code(found), Relaxed);
    let current = lent.process.current_of::<CpuId>(&area);
    lent.runs.store(current.is_some().into(), Relaxed);
    let is_back = before == sched::allowed();
    assert!(is_back, "the thread is still bound to a CPU");
}

/// Two threads for one probe: their results, and whether they may run sections.
fn two<K: Kernel + Sync>(
    process: &'static Process<K>,
    probe: &'static SectionProbe,
) -> (u32, bool) {
    let lend = || {
        let payload = Lent {
            process,
            probe,
            found: AtomicU32::new(0),
            runs: AtomicU32::new(0),
        };
        thread::start(STACK, payload, lent::<K>).unwrap()
    };
    let [one, other] = [lend(), lend()].map(|thread| {
        thread.wait();
        let lent = thread.payload();
        let found = (lent.found.load(Relaxed), lent.runs.load(Relaxed) != 0);
        thread.join().unwrap();
        found
    });
    assert_eq!(one, other, "the two threads");
    one
}

static HANDLED: SectionProbe = SectionProbe::new().with_signal(SIGUSR1);

unsafe extern "C" fn handler(_: i32, _: *mut siginfo_t, _: *mut u8) {
    HANDLED.on_signal();
}

/// A process's view of section support, and its source.
fn support<K: Kernel>(process: &Process<K>) -> (SectionSupport, VouchedBy) {
    (process.section_support(), process.vouched_by())
}

/// Whether this kernel is known not to abort on a preemption.
fn is_known_bad() -> bool {
    cfg!(target_arch = "aarch64")
        && process::uname().is_ok_and(|name| {
            let release = process::field(&name.release);
            SectionSupport::on_aarch64(release) == SectionSupport::KnownBad
        })
}

fn probe(ctx: &Ctx<'_>) {
    assert_eq!(RSEQ.init(hooked::config(ctx.env)), Ok(None));
    assert_eq!(
        support(&RSEQ),
        (SectionSupport::NotAsked, VouchedBy::Nobody),
        "nobody has asked"
    );
    // SAFETY: handle (1) it stores one word.
    unsafe { signals::handle(SIGUSR1 as i32, handler, 0) }.unwrap();
    let (found, runs) = two(&RSEQ, &HANDLED);
    let expected = match ctx.facts.rseq {
        Err(_) => UNAVAILABLE,
        Ok(()) if is_known_bad() => COMMITTED,
        Ok(()) if ctx.facts.cpus == 1 => ABORTED_BY_PREEMPTION,
        Ok(()) => ABORTED_BY_ALL,
    };
    assert_eq!(found, expected);
    let (sections, by) = match expected {
        UNAVAILABLE => (SectionSupport::NotAsked, VouchedBy::Nobody),
        COMMITTED => (SectionSupport::NotAborted, VouchedBy::Probe),
        _ => (SectionSupport::Allowed, VouchedBy::Probe),
    };
    assert_eq!(support(&RSEQ), (sections, by), "what it left behind");
    assert_eq!(
        runs,
        sections == SectionSupport::Allowed,
        "who may run sections"
    );
    if by == VouchedBy::Probe {
        assert_eq!(RSEQ.allow_sections(), sections, "the name changed it");
        assert_eq!(RSEQ.vouched_by(), by);
    }
    passed!("found {found}");
}

/// The lent signal is blocked: that cause is left out, and the probe ends.
fn blocked(ctx: &Ctx<'_>) {
    static PROBE: SectionProbe = SectionProbe::new().with_signal(SIGUSR1);
    assert_eq!(RSEQ.init(hooked::config(ctx.env)), Ok(None));
    // Threads inherit the mask of their creator.
    let _mask = rseq_rt::SignalMask::block_all().unwrap();
    let (found, _) = two(&RSEQ, &PROBE);
    let expected = match ctx.facts.cpus {
        _ if is_known_bad() => COMMITTED,
        1 => ABORTED_BY_PREEMPTION,
        _ => ABORTED_BY_ALL_BUT_A_SIGNAL,
    };
    assert_eq!(found, expected);
}

/// Registration pretends to succeed, and the ids are written by hand: the name is trusted, but the probe fails.
fn never(ctx: &Ctx<'_>) {
    static PROCESS: Process<Pretending> = Process::with_kernel(Pretending);
    static PROBE: SectionProbe = SectionProbe::new();
    assert_eq!(PROCESS.init(hooked::config(ctx.env)), Ok(None));
    assert_eq!(
        PROCESS.allow_sections(),
        SectionSupport::Allowed,
        "the name"
    );
    assert_eq!(PROCESS.vouched_by(), VouchedBy::Name);
    let (found, runs) = two(&PROCESS, &PROBE);
    assert_eq!(found, COMMITTED);
    assert_eq!(
        support(&PROCESS),
        (SectionSupport::NotAborted, VouchedBy::Probe),
        "what it left behind"
    );
    assert!(!runs, "a thread may run sections");
    assert_eq!(PROCESS.allow_sections(), SectionSupport::NotAborted);
}

/// A version refused on aarch64, reported by a kernel that aborts.
fn renamed(ctx: &Ctx<'_>) {
    static PROCESS: Process<Renamed> = Process::with_kernel(Renamed(b"7.0.5-arm64"));
    static PROBE: SectionProbe = SectionProbe::new();
    assert_eq!(PROCESS.init(hooked::config(ctx.env)), Ok(None));
    let named = PROCESS.allow_sections();
    let refused = cfg!(target_arch = "aarch64");
    assert_eq!(named == SectionSupport::KnownBad, refused, "the name");
    assert_eq!(PROCESS.vouched_by(), VouchedBy::Name);
    let (found, runs) = two(&PROCESS, &PROBE);
    if is_known_bad() {
        assert_eq!((found, runs), (COMMITTED, false));
        return;
    }
    let aborted = found == ABORTED_BY_PREEMPTION || found == ABORTED_BY_ALL_BUT_A_SIGNAL;
    assert!(aborted && runs, "found {found}");
    assert_eq!(
        support(&PROCESS),
        (SectionSupport::Allowed, VouchedBy::Probe),
        "what it left behind"
    );
}

fn alone(ctx: &Ctx<'_>) {
    static PROBE: SectionProbe = SectionProbe::new().with_patience(100);
    assert_eq!(RSEQ.init(hooked::config(ctx.env)), Ok(None));
    // SAFETY: adopt_main (1) once in this process, on its main thread.
    let _ = unsafe { hooked::adopt_main() }.unwrap();
    let here = hooked::here().unwrap();
    let expected = if ctx.facts.rseq.is_ok() {
        UNDECIDED
    } else {
        UNAVAILABLE
    };
    // Repeated with the same object: it serves one probe only.
    for _ in 0..3 {
        // SAFETY: probe_sections (1) this thread's own.
        let found = code(unsafe { RSEQ.probe_sections(&here.area, &PROBE) });
        assert_eq!(found, expected);
        assert_eq!(
            support(&RSEQ),
            (SectionSupport::NotAsked, VouchedBy::Nobody),
            "something was left behind"
        );
    }
}
