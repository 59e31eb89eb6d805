//! Stores to an area before the kernel has answered, and trust in the answer. The kernel here inspects the area before
//! each rseq(2).

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rseq_rt::abi::{FLAG_UNREGISTER, LEGACY_LENGTH, Rseq};
use rseq_rt::{Area, Claim, Config, Errno, Kernel, Linux, Owner, Process, Reason, State};

use crate::harness::{Ctx, must_pass, passed};
use crate::hooks::common::Hooks as _;
use crate::sys::mm::{self, Access};
use crate::{other_calls_of_linux, witness};

/// Registration calls.
static ASKED: AtomicU32 = AtomicU32::new(0);
/// Those with a length above 32 that found a changed id.
static STORED: AtomicU32 = AtomicU32::new(0);
static IDS: [AtomicU32; 4] = [const { AtomicU32::new(0) }; 4];
/// The kernel in use.
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

/// The real kernel, or one of the simulated ones.
#[derive(Debug)]
struct Watched;

// SAFETY: Kernel (1) Linux's own, or nothing was registered; (2, 3) Linux's own.
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
            // Only the first call of a registration precedes the answer.
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

    other_calls_of_linux!();
}

static PROCESS: Process<Watched> = Process::with_kernel(Watched);

/// Registers an area filled with `bytes`, with a length of 33. Returns its state.
fn register(bytes: u8, played: u32) -> State {
    PLAYED.store(played, Relaxed);
    let page = mm::map(mm::page_size(), Access::ReadWrite).unwrap();
    // SAFETY: a new page; the kernel's half of an area may hold anything.
    unsafe {
        crate::mem::memset(page, bytes.into(), 32);
        page.cast::<u64>().add(1).write(0);
    }
    // SAFETY: an area, never unmapped.
    let area = unsafe { &*page.cast::<Area>() };
    for (id, now) in IDS.iter().zip(ids(witness::rseq_of(area))) {
        id.store(now, Relaxed);
    }
    let config = Config::new(Some(33), Some(64)).claim(Claim::Runtime);
    assert_eq!(PROCESS.init(config), Ok(None));
    let state = PROCESS.ensure(area);
    assert_eq!(state, Ok(area.state()));
    let stored = STORED.load(Relaxed);
    assert_eq!(stored, 0, "an id was stored before the answer");
    area.state()
}

/// With a length above 32 only the kernel stores ids first, whatever the memory holds and whoever answers.
pub fn nobody_stores(_: &Ctx) {
    // All ones, zeroes, and ids of no CPU.
    for bytes in [0xff, 0, 0x77] {
        for played in [THE_KERNEL, EMULATOR, FILTER] {
            must_pass(|| _ = register(bytes, played));
        }
    }
}

/// Zeroed memory shows CPU 0 before any answer: an emulator that returns 0 and does nothing is not trusted, and a
/// kernel on CPU 0 is asked once more.
pub fn zeroed(ctx: &Ctx) {
    must_pass(|| {
        let pretended = State::Unavailable(Reason::Pretended);
        assert_eq!(register(0, EMULATOR), pretended);
    });
    // Before 6.3 the kernel takes only 32, and the area's layout follows that.
    if ctx.facts.rseq.is_err() || ctx.facts.feature_size < 28 {
        passed!("an emulator only");
        return;
    }
    witness::on_each_cpu(|cpu| {
        must_pass(|| {
            let ours = State::Registered(Owner::Runtime);
            assert_eq!(register(0, THE_KERNEL), ours, "on CPU {cpu}");
            let expected = if cpu == 0 { 2 } else { 1 };
            assert_eq!(ASKED.load(Relaxed), expected, "calls on CPU {cpu}");
        });
    });
}
