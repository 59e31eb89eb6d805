//! The places at which sections can stop, each taken in its turn and told when it was reached.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use rseq_rt::percpu::inject::Op;
use rseq_rt::percpu::{CpuId, Index};

/// The stops of one operation by one kind of index.
pub struct Stops {
    /// How many it has; 0 until one of them ran through.
    pub count: AtomicU32,
    /// The next one comes in turn, so that none is left out.
    pub next: AtomicU32,
    /// Those that a section has stood at, one bit each.
    pub reached: AtomicU64,
}

/// By index, and by operation in the order of [`Op`].
static STOPS: [[Stops; 8]; 2] = [const {
    [const {
        Stops {
            count: AtomicU32::new(0),
            next: AtomicU32::new(0),
            reached: AtomicU64::new(0),
        }
    }; 8]
}; 2];

/// Those of one operation.
pub fn stops<I: Index>(op: &Op) -> &'static Stops {
    let [by_cpu, by_mm_cid] = &STOPS;
    let [a, b, c, d, e, f, g, h] = if I::OFFSET == CpuId::OFFSET {
        by_cpu
    } else {
        by_mm_cid
    };
    match op {
        Op::Add(..) => a,
        Op::AddThrough(..) => b,
        Op::CompareAndStore(..) => c,
        Op::CompareTwoAndStore(..) => d,
        Op::CompareStoreAndStore(..) => e,
        Op::CompareLinkAndStore(..) => f,
        Op::Pop(..) => g,
        Op::CompareCopyAndStore(..) => h,
    }
}

/// Of all operations that ran: how many stops they have, and how many of those no section has stood at.
pub fn missed() -> (u32, u32) {
    let mut all = (0, 0);
    for stops in STOPS.as_flattened() {
        let count = stops.count.load(Relaxed);
        all.0 += count;
        all.1 += count - stops.reached.load(Relaxed).count_ones().min(count);
    }
    all
}
