//! Each section takes the slot of the id in the area, and no other; beyond the last slot there is none. On a simulated
//! kernel, so that the test sets the ids.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rseq_rt::percpu::{Commit, CpuId, Current, Index, Miss, MmCid, Operation};
use rseq_rt::{Area, Process};

use super::own::events::Events;
use super::own::slab::Slabs;
use super::own::steps::Stepped;
use super::single::End;
use super::slot::{self, HEAD, NEXT};
use super::steps::{Eight, Program, sections};
use super::unprotected::Pretending;
use crate::harness::{Ctx, Test};
use crate::hooked;
use crate::hooks::common::Hooks as _;

#[rustfmt::skip] // a table
pub const TESTS: &[Test] = &[
    Test::new("percpu/each-id-has-its-slot", each::<Eight>),
    Test::new("percpu/own-each-id-has-its-slot-slab", each::<Stepped<Slabs>>),
    Test::new("percpu/own-each-id-has-its-slot-events", each::<Stepped<Events>>),
];

static PROCESS: Process<Pretending> = Process::with_kernel(Pretending);
static AREA: Area = Area::new();

/// The number of slots checked.
const FEW: usize = 8;
static BEFORE: [AtomicUsize; FEW] = [const { AtomicUsize::new(0) }; FEW];
/// The slots that changed between two calls of [`around`], one bit each.
static CHANGED: AtomicUsize = AtomicUsize::new(0);

fn around<P: Program>() {
    let changed = BEFORE.iter().enumerate().map(|(nth, before)| {
        let held = P::held(nth);
        usize::from(before.swap(held, Relaxed) != held) << nth
    });
    CHANGED.store(changed.sum(), Relaxed);
}

fn each<P: Program>(ctx: &Ctx<'_>) {
    assert_eq!(PROCESS.init(hooked::config(ctx.env)), Ok(None));
    PROCESS.allow_sections();
    let _ = PROCESS.create(&AREA).unwrap();
    // SAFETY: a static area.
    let area = unsafe { &*AREA.as_rseq() };
    let current = PROCESS.current_of::<CpuId>(&AREA);
    by::<P, CpuId>(current.unwrap(), |id| {
        area.cpu_id.store(id as i32, Relaxed);
        area.mm_cid.store(id ^ 2, Relaxed);
    });
    let current = PROCESS.current_of::<MmCid>(&AREA);
    if let Some(current) = current {
        by::<P, MmCid>(current, |id| {
            area.mm_cid.store(id, Relaxed);
            area.cpu_id.store((id ^ 2) as i32, Relaxed);
        });
    }
}

/// Sections by the id that `set` stores, with a different id of the other kind beside it.
fn by<P: Program, I: Index>(current: Current<'_, I>, set: impl Fn(u32)) {
    P::begin::<I>();
    // With a result for "none" that is in no register by chance.
    let (slots, empty) = (
        slot::few::<I>().unwrap(),
        core::ptr::without_provenance_mut(0x5a40),
    );
    let pop = Operation::Pop {
        word: HEAD,
        empty,
        link: NEXT,
    };
    set(u32::MAX);
    // SAFETY: (1, 2, 3) no slot is accessed.
    let popped = unsafe { current.run(slots, pop, Commit::Relaxed) };
    assert_eq!(popped, Err(Miss::OutOfRange));
    for (commit, nth) in [Commit::Relaxed, Commit::Release]
        .into_iter()
        .flat_map(|commit| sections::<P>().map(move |nth| (commit, nth)))
    {
        for (id, slot) in [
            (0, Ok(0)),
            (1, Ok(1)),
            (FEW as u32 - 1, Ok(FEW - 1)),
            (P::SLOTS as u32, Err(Miss::OutOfRange)),
            (u32::MAX, Err(Miss::OutOfRange)),
        ] {
            set(id);
            let end = P::once(nth, current, commit, around::<P>);
            let (expected, changed) = match slot {
                Ok(slot) => (End::Done, 1 << slot),
                Err(miss) => (End::Missed(miss), 0),
            };
            assert_eq!(end, expected, "section {nth}, id {id:#x}");
            let found = CHANGED.load(Relaxed);
            assert_eq!(
                found, changed,
                "the slots that section {nth} changed, id {id:#x}"
            );
        }
    }
}
