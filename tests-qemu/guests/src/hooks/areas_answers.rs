//! What is stored to an area before the kernel has answered, and what is believed of the answer: seen by a kernel that
//! looks at the area before each rseq(2).

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rseq_rt::abi::{FLAG_UNREGISTER, LEGACY_LENGTH, Rseq};
use rseq_rt::{Area, Claim, Config, Errno, Kernel, Linux, Owner, Process, Reason, State, Trio};

use crate::harness::{Ctx, Failed, PASSED, Verdict, forked};
use crate::sys::mm::{self, Access};
use crate::sys::process::{Status, exit_group};
use crate::sys::sched::{self, CpuSet};
use crate::{check, other_calls_of_linux, passed, witness};

/// How often a registration was asked for.
static ASKED: AtomicU32 = AtomicU32::new(0);
/// Of those with a length above 32: how often an id was another one than before.
static STORED: AtomicU32 = AtomicU32::new(0);
static IDS: [AtomicU32; 4] = [const { AtomicU32::new(0) }; 4];
/// What stands in the kernel's place; 0: the kernel.
static PLAYED: AtomicU32 = AtomicU32::new(THE_KERNEL);
const THE_KERNEL: u32 = 0;
const EMULATOR: u32 = 1;
const FILTER: u32 = 2;

fn ids(area: &Rseq) -> [u32; 4] {
    [
        area.cpu_id_start.load(Relaxed),
        area.cpu_id.load(Relaxed) as u32,
        area.node_id.load(Relaxed),
        area.mm_cid.load(Relaxed),
    ]
}

/// The real kernel, or what is played of it.
#[derive(Debug)]
struct Watched;

// SAFETY: Kernel (1) Linux's own, or nothing was registered; (2) Linux's own; (3) there is no trio.
unsafe impl Kernel for Watched {
    unsafe fn rseq(
        &self,
        area: *const Rseq,
        length: u32,
        flags: u32,
        signature: u32,
    ) -> Result<(), Errno> {
        // SAFETY: the area of the test.
        let now = ids(unsafe { &*area });
        if flags & FLAG_UNREGISTER == 0 {
            ASKED.fetch_add(1, Relaxed);
            let same = now
                .iter()
                .zip(&IDS)
                .all(|(now, id)| *now == id.load(Relaxed));
            // The second call of a registration comes after the answer.
            if length > LEGACY_LENGTH && !same && ASKED.load(Relaxed) == 1 {
                STORED.fetch_add(1, Relaxed);
            }
        }
        match PLAYED.load(Relaxed) {
            EMULATOR => Ok(()),
            FILTER => Err(Errno::BUSY),
            // SAFETY: Kernel::rseq (1) is this function's (1).
            _ => unsafe { Linux.rseq(area, length, flags, signature) },
        }
    }

    fn libc_trio(&self) -> Option<Trio> {
        None
    }

    other_calls_of_linux!();
}

static PROCESS: Process<Watched> = Process::with_kernel(Watched);

/// In a child: registers an area that reads `bytes` everywhere with a length of 33; its state.
fn register(bytes: u8, played: u32, cpu: Option<u32>) -> Result<State, Failed> {
    PLAYED.store(played, Relaxed);
    if let Some(cpu) = cpu {
        sched::allow(0, &CpuSet::one(cpu))?;
    }
    let page = mm::map(mm::page_size(), Access::ReadWrite)?;
    // SAFETY: a new page; the kernel's half of an area may hold anything.
    unsafe {
        crate::mem::memset(page, bytes.into(), 32);
        page.cast::<u64>().wrapping_add(1).write(0);
    }
    // SAFETY: an area, never unmapped.
    let area = unsafe { &*page.cast::<Area>() };
    for (id, now) in IDS.iter().zip(ids(witness::rseq_of(area))) {
        id.store(now, Relaxed);
    }
    let config = Config::new(Some(33), Some(64)).claim(Claim::Runtime);
    check!(PROCESS.init(config) == Ok(None), "init");
    // SAFETY: ensure_registered (1, 2) the only thread's, never unmapped.
    let state = unsafe { PROCESS.ensure_registered(area) };
    check!(state == Ok(area.state()), "the state");
    let stored = STORED.load(Relaxed);
    check!(stored == 0, "an id was stored before the answer");
    Ok(area.state())
}

fn in_child(body: impl FnOnce() -> Result<(), Failed>) -> Result<(), Failed> {
    let status = forked(|| exit_group(body().is_err().into()))?;
    check!(status == Status::Exited(0), "the child ", status);
    Ok(())
}

/// Whatever the memory holds, and whoever answers: with a length above 32 the ids are the kernel's to write first.
pub(super) fn nobody_stores(_: &Ctx<'_>) -> Verdict {
    // -1 everywhere, zeroes, and ids of no CPU.
    for bytes in [0xff, 0, 0x77] {
        for played in [THE_KERNEL, EMULATOR, FILTER] {
            in_child(|| register(bytes, played, None).map(drop))?;
        }
    }
    PASSED
}

/// Zeroed memory shows CPU 0 before any answer: an emulator that says 0 and does nothing is not believed, and a kernel
/// on CPU 0 is asked once more.
pub(super) fn zeroed(ctx: &Ctx<'_>) -> Verdict {
    let ours = State::Registered(Owner::Runtime);
    in_child(|| {
        let state = register(0, EMULATOR, None)?;
        let pretended = State::Unavailable(Reason::Pretended);
        check!(state == pretended, "an emulator was believed");
        Ok(())
    })?;
    // Before 6.3 the kernel takes 32 alone, and then the area is laid out for it.
    if ctx.facts.rseq.is_err() || ctx.facts.feature_size < 28 {
        return passed!("an emulator only");
    }
    for cpu in witness::cpus().iter() {
        in_child(|| {
            let state = register(0, THE_KERNEL, Some(cpu))?;
            check!(state == ours, "not registered on CPU ", cpu);
            let asked = ASKED.load(Relaxed);
            let expected = if cpu == 0 { 2 } else { 1 };
            check!(asked == expected, asked, " calls on CPU ", cpu);
            Ok(())
        })?;
    }
    PASSED
}
