//! The places at which sections can stop, each taken in turn and recorded when it was reached.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use rseq_rt::percpu::{CpuId, Index, Operation};

/// The stops of one operation by one kind of index.
pub struct Stops {
    /// Their number; 0 until a run has counted them.
    pub count: AtomicU32,
    /// The next one in turn, so that none is left out.
    next: AtomicU32,
    /// Those at which a section has stopped, one bit each.
    pub reached: AtomicU64,
}

/// The bits of `reached`: further iterations of a loop are like those before.
const MOST: u32 = u64::BITS;

impl Stops {
    const fn new() -> Self {
        Self {
            count: AtomicU32::new(0),
            next: AtomicU32::new(0),
            reached: AtomicU64::new(0),
        }
    }

    /// Records the number counted in one run.
    pub fn counted(&self, count: u32) {
        self.count.store(count.min(MOST), Relaxed);
    }

    /// The next one in turn, preferably one not reached yet.
    pub fn next(&self, count: u32) -> u32 {
        let turn = self.next.fetch_add(1, Relaxed) % count;
        let reached = self.reached.load(Relaxed);
        let in_turn = (turn..count).chain(0..turn);
        in_turn
            .into_iter()
            .find(|nth| reached >> nth & 1 == 0)
            .unwrap_or(turn)
    }
}

/// By index, and by operation in the order of [`Operation`].
static STOPS: [[Stops; 8]; 2] = [const { [const { Stops::new() }; 8] }; 2];

/// By index, and by user-defined section: as many as one structure may have.
static OWN: [[Stops; 8]; 2] = [const { [const { Stops::new() }; 8] }; 2];

/// The stops of the `nth` user-defined section of the one structure that a test runs.
pub fn own<I: Index>(nth: usize) -> &'static Stops {
    let [by_cpu, by_mm_cid] = &OWN;
    let sections = if I::OFFSET == CpuId::OFFSET {
        by_cpu
    } else {
        by_mm_cid
    };
    &sections[nth]
}

pub fn stops<I: Index>(op: &Operation) -> &'static Stops {
    let [by_cpu, by_mm_cid] = &STOPS;
    let [a, b, c, d, e, f, g, h] = if I::OFFSET == CpuId::OFFSET {
        by_cpu
    } else {
        by_mm_cid
    };
    match op {
        Operation::Add { .. } => a,
        Operation::AddThrough { .. } => b,
        Operation::CompareAndStore { .. } => c,
        Operation::CompareTwoAndStore { .. } => d,
        Operation::CompareStoreAndStore { .. } => e,
        Operation::CompareLinkAndStore { .. } => f,
        Operation::Pop { .. } => g,
        Operation::CompareCopyAndStore { .. } => h,
    }
}

/// For all operations that ran: the number of stops, and of those never reached.
pub fn missed() -> (u32, u32) {
    let mut all = (0, 0);
    for stops in STOPS.as_flattened().iter().chain(OWN.as_flattened()) {
        let count = stops.count.load(Relaxed);
        all.0 += count;
        all.1 += count - stops.reached.load(Relaxed).count_ones().min(count);
    }
    all
}
