//! The operations, one thread on one CPU: plain, in a section, atomic.

use rseq_rt::percpu::{CpuId, Index, MmCid};

use crate::here::{self, RSEQ};
use crate::measure::{each, hidden, tell};
use crate::operations::{self, At, Measured, Relaxed, Visit};
use crate::pipeline;
use crate::slot::{self, Slot};

thread_local! {
    static FLOOR: Slot = const { Slot::new() };
}

/// Description of the libc's CPU number for the table.
pub const GETCPU: &str =
    "sched_getcpu(3) (glibc without rseq: the vDSO), then the atomic form on that CPU's line";

pub fn run() {
    here::init();
    here::register();
    operations::each(&Alone);
    pipeline::run();
}

struct Alone;

impl Visit for Alone {
    fn operation<O: Measured>(&self) {
        plain::<O>();
        sections::<O>();
        atomics::<O>();
    }
}

/// A slot for each CPU, prepared for `O`.
pub fn storage<O: Measured>() -> &'static [Slot] {
    let storage = Slot::for_each_cpu();
    storage.iter().for_each(O::prepare);
    storage
}

/// Runs the plain form on the calling thread's own slot.
///
/// # Safety
/// 1. [`prepare_floor`] was called for this operation, and for no other since.
#[inline(always)]
pub unsafe fn on_floor<O: Measured>(operation: &O) -> Option<O::Answer> {
    // SAFETY: plain (1) the thread's own; (2) is (1).
    FLOOR.with(|slot| unsafe { operation.plain(slot) })
}

/// Prepares that slot for `O`.
pub fn prepare_floor<O: Measured>() {
    FLOOR.with(|slot| {
        slot.renew();
        O::prepare(slot);
    });
}

/// Runs the atomic form on the slot of the CPU that the libc returns.
///
/// # Safety
/// 1. The slots are from [`storage`], and all users do only this.
#[inline(always)]
pub unsafe fn by_getcpu<O: Measured>(operation: &O, storage: &[Slot]) -> Option<O::Answer> {
    // SAFETY: no argument, no memory.
    let cpu = unsafe { libc::sched_getcpu() };
    // SAFETY: atomic (1, 2) are (1).
    unsafe { operation.atomic(storage.get(cpu as usize)?) }
}

fn plain<O: Measured>() {
    let operation = O::default();
    prepare_floor::<O>();
    let what = "the same steps in plain instructions, on a thread-local line: the floor";
    // SAFETY: on_floor (1) prepared just before.
    let value = each(|| unsafe { on_floor(&operation) });
    tell(O::NAME, "plain", value, what);
    let own = &storage::<O>()[0];
    // SAFETY: plain (1, 2) fresh from `storage`, and otherwise unused.
    let value = each(|| unsafe { operation.plain(hidden(own)) });
    let what =
        "the same behind a pointer that the compiler and the CPU's renaming do not see through";
    tell(O::NAME, "plain, by pointer", value, what);
}

fn sections<O: Measured>() {
    let relaxed = "the critical section by cpu_id, with a Current at hand, relaxed commit";
    section::<O, CpuId, false>("per-CPU", relaxed);
    let release = "the same with a release commit";
    section::<O, CpuId, true>("per-CPU, release", release);
    let mm_cid = "the section by mm_cid, relaxed";
    section::<O, MmCid, false>("per-CPU, mm_cid", mm_cid);

    if here::current::<CpuId>().is_none() {
        return;
    }
    let operation = O::default();
    let slots = slot::slots::<CpuId>(storage::<O>());
    let value = each(|| {
        let current = here::current()?;
        operation.section(&Relaxed { current, slots }).ok()
    });
    let what =
        "the section by cpu_id, with the Current fetched through thread-local storage each time";
    tell(O::NAME, "per-CPU, fetched", value, what);
}

fn section<O: Measured, I: Index, const RELEASE: bool>(variant: &str, what: &str) {
    let Some(current) = here::current::<I>() else {
        return eprintln!("bench: {}: no {variant} here", O::NAME);
    };
    let operation = O::default();
    let slots = slot::slots(storage::<O>());
    let at = At::<I, RELEASE> { current, slots };
    tell(O::NAME, variant, each(|| operation.section(&at)), what);
}

fn atomics<O: Measured>() {
    let operation = O::default();
    let own = hidden(&storage::<O>()[0]);
    let what = format!("{}; on a line that nobody else uses", O::ATOMIC);
    // SAFETY: atomic (1, 2) fresh from `storage`, and otherwise unused.
    let value = each(|| unsafe { operation.atomic(own) });
    tell(O::NAME, "atomic", value, &what);
    let storage = storage::<O>();
    // SAFETY: by_getcpu (1) fresh, for the two forms here.
    let value = each(|| unsafe { by_getcpu(&operation, storage) });
    tell(O::NAME, "per-CPU atomic, getcpu", value, GETCPU);
    let value = each(|| {
        let cpu = RSEQ.current_cpu(here::area()).unwrap_or_default();
        // SAFETY: atomic (1, 2) as above.
        unsafe { operation.atomic(storage.get(cpu as usize)?) }
    });
    let what = "Process::current_cpu, then the atomic form on that CPU's line";
    tell(O::NAME, "per-CPU atomic, rseq", value, what);
}
