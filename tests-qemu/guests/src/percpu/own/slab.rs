//! The slab of `examples/sections`: batches in and out.

use core::sync::atomic::Ordering::Relaxed;

use own_sections::slab::Slab;
use own_sections::slab::sections::{pop, push};
use rseq_rt::percpu::{Index, Miss, Slots};

use super::{Attempt, Subject, mixed};
use crate::attempt;

/// Items of a batch.
pub const BATCH: usize = 8;

pub static SLABS: [Slab; 256] = [const { Slab::new() }; 256];

pub enum Slabs {}

impl Subject for Slabs {
    const SECTIONS: usize = 2;
    type Data = [usize; BATCH];

    fn clear() {
        for slab in &SLABS {
            slab.count().store(0, Relaxed);
        }
    }

    fn data(nth: usize, seed: usize) -> Self::Data {
        match nth {
            0 => core::array::from_fn(|item| seed << 3 | item),
            _ => [0; BATCH],
        }
    }

    fn run<I: Index>(
        nth: usize,
        attempt: Attempt<'_, I>,
        data: &mut Self::Data,
    ) -> Result<usize, Miss> {
        let slabs = Slots::<I, Slab>::of(&SLABS);
        let (slab, at) = (slabs.address(0), data.as_mut_ptr().expose_provenance());
        // SAFETY: (1) slabs that only these sections write while they run, and a batch at `at`.
        unsafe {
            match nth {
                0 => attempt!(attempt, push, slabs, slab, at, BATCH),
                _ => attempt!(attempt, pop, slabs, slab, at, BATCH, 0),
            }
        }
    }

    fn change(nth: usize, data: &Self::Data, result: usize) -> usize {
        let moved = if nth == 0 { BATCH } else { result };
        let items = data.iter().take(moved).map(|&item| mixed(item));
        let sum = items.fold(0, usize::wrapping_add);
        if nth == 0 { sum } else { sum.wrapping_neg() }
    }

    fn held(slot: usize) -> usize {
        SLABS[slot].count().load(Relaxed)
    }

    fn sum() -> Option<usize> {
        let items = |slab: &'static Slab| slab.items().iter().take(slab.count().load(Relaxed));
        let items = SLABS.iter().flat_map(items);
        Some(items.fold(0, |sum, item| sum.wrapping_add(mixed(item.load(Relaxed)))))
    }
}
