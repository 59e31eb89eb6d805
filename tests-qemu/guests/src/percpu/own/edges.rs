//! Edge cases of user-defined sections: full, empty, fewer items than requested, zero items.

use core::hint::black_box;
use core::sync::atomic::Ordering::Relaxed;

use own_sections::events::{self, Log};
use own_sections::slab::{self, Slab};
use rseq_rt::Area;
use rseq_rt::percpu::{Commit, CpuId, Current, Index, Miss, MmCid, Slots};

use super::events::LOGS;
use super::slab::SLABS;
use crate::harness::{Ctx, skip};
use crate::hooked::RSEQ;
use crate::sys::sched::{self, CpuSet};
use crate::witness;

/// The cases to try, for each index.
pub trait Edges {
    fn by<I: Index>(current: Current<'_, I>, commit: Commit);
}

pub fn edges<E: Edges>(ctx: &Ctx<'_>) {
    static AREA: Area = Area::new();
    super::super::init(ctx);
    sched::allow(0, &CpuSet::one(witness::cpus().iter().next().unwrap())).unwrap();
    // SAFETY: (1, 2, 3) the only thread's, static.
    let _ = unsafe { RSEQ.on_thread_create(&AREA) }.unwrap();
    // SAFETY: (1) its own; (2) no loan, and no exit hook.
    let by_cpu: Option<Current<'_, CpuId>> = unsafe { RSEQ.current(&AREA) };
    let Some(by_cpu) = by_cpu else {
        skip!("this kernel may run no sections");
    };
    // SAFETY: as above.
    let by_mm_cid: Option<Current<'_, MmCid>> = unsafe { RSEQ.current(&AREA) };
    for commit in [Commit::Relaxed, Commit::Release] {
        E::by(by_cpu, commit);
        if let Some(by_mm_cid) = by_mm_cid {
            E::by(by_mm_cid, commit);
        }
    }
}

/// Retries while aborted.
fn until_done(mut section: impl FnMut() -> Result<usize, Miss>) -> Result<usize, Miss> {
    loop {
        match section() {
            Err(Miss::Aborted) => {}
            end => return end,
        }
    }
}

pub enum SlabEdges {}

impl Edges for SlabEdges {
    fn by<I: Index>(current: Current<'_, I>, commit: Commit) {
        use slab::sections::{pop, push};
        let slabs = Slots::<I, Slab>::of(&SLABS);
        let counts = |count: usize| {
            SLABS
                .iter()
                .for_each(|slab| slab.count().store(count, Relaxed))
        };
        let is = |count| {
            SLABS
                .iter()
                .filter(|slab| slab.count().load(Relaxed) == count)
                .count()
        };
        let batch: [usize; 8] = core::array::from_fn(|nth| 1000 + nth);
        let from = batch.as_ptr().expose_provenance();
        let full = slab::ROOM;
        for (before, length, end) in [
            (full, 1, Err(Miss::Differs)),
            (full - 7, 8, Err(Miss::Differs)),
            (full - 8, 8, Ok(0)),
            (0, 0, Ok(0)),
            (3, 1, Ok(0)),
        ] {
            counts(before);
            let length = black_box(length);
            // SAFETY: (1) slabs that nobody else uses, and as many words.
            let push = || unsafe { push(current, slabs, commit, slabs.address(0), from, length) };
            assert_eq!(until_done(push), end, "{length} onto {before}");
            let after = if end.is_ok() { before + length } else { before };
            assert!(
                is(after) >= 1 && is(after) + is(before) >= SLABS.len(),
                "the count"
            );
        }
        for (before, length, end) in [
            (0, 8, Err(Miss::Differs)),
            (3, 8, Ok(3)),
            (8, 8, Ok(8)),
            (full, 2, Ok(2)),
            (5, 0, Err(Miss::Differs)),
        ] {
            counts(before);
            let length = black_box(length);
            for item in SLABS
                .iter()
                .flat_map(|slab| slab.items().iter().enumerate())
            {
                item.1.store(500 + item.0, Relaxed);
            }
            let mut batch = [0usize; 8];
            let to = batch.as_mut_ptr().expose_provenance();
            // SAFETY: (1) slabs that nobody else uses, and as many words.
            let pop = || unsafe { pop(current, slabs, commit, slabs.address(0), to, length, 0) };
            assert_eq!(until_done(pop), end, "{length} of {before}");
            let taken = end.unwrap_or(0);
            let expected = (0..8).map(|nth| {
                if nth < taken {
                    500 + before - taken + nth
                } else {
                    0
                }
            });
            assert!(
                batch.into_iter().eq(expected),
                "what {length} of {before} are: {batch:?}"
            );
            assert!(is(before - taken) >= 1, "the count");
        }
    }
}

pub enum EventEdges {}

impl Edges for EventEdges {
    fn by<I: Index>(current: Current<'_, I>, commit: Commit) {
        use events::sections::{append, take};
        let logs = Slots::<I, Log>::of(&LOGS);
        let lengths = |length: usize| {
            LOGS.iter()
                .for_each(|log| log.length().store(length, Relaxed))
        };
        let is = |length| LOGS.iter().any(|log| log.length().load(Relaxed) == length);
        let payload = [3usize, 4];
        let from = payload.as_ptr().expose_provenance();
        let full = events::ROOM;
        for (before, bytes, end) in [
            (full, 0, Err(Miss::Differs)),
            (full - 24, 16, Err(Miss::Differs)),
            (full - 32, 16, Ok(0)),
            (0, 0, Ok(0)),
        ] {
            lengths(before);
            // One copy of the section for all of these.
            let bytes = black_box(bytes);
            // SAFETY: (1) logs that nobody else uses, and as many bytes.
            let append =
                || unsafe { append(current, logs, commit, logs.address(0), 1, 2, from, bytes) };
            assert_eq!(until_done(append), end, "{bytes} behind {before}");
            let after = if end.is_ok() {
                before + 16 + bytes
            } else {
                before
            };
            assert!(is(after), "the length");
            if end.is_ok() {
                let log = LOGS
                    .iter()
                    .find(|log| log.length().load(Relaxed) == after)
                    .unwrap();
                let words = &log.published()[before / 8..];
                let words = words.iter().map(|word| word.load(Relaxed));
                assert!(
                    words.eq([1, 2, 3, 4].into_iter().take(2 + bytes / 8)),
                    "the event"
                );
            }
        }
        for (before, end) in [(0, Err(Miss::Differs)), (8, Ok(8)), (full, Ok(full))] {
            lengths(before);
            let mut words = [0usize; events::ROOM / 8];
            let to = words.as_mut_ptr().expose_provenance();
            // SAFETY: (1) logs that nobody else uses, and room for one.
            let take = || unsafe { take(current, logs, commit, logs.address(0), to, 0) };
            assert_eq!(until_done(take), end, "all of {before}");
            assert!(is(0), "the length");
        }
    }
}
