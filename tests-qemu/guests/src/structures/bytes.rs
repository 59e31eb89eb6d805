//! Records: each collected exactly once, and whole.

use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;

use rseq_rt::percpu::{CpuId, Index, MmCid};
use rseq_rt::structures::{Bytes, DrainError, Fence, NotPushed};

use super::crowd::{self, SLOTS, Work, here, place};
use super::fresh;
use crate::harness::{Ctx, Test, passed};
use crate::sys::sched;

pub const TESTS: &[Test] = &[
    Test::new("structures/bytes-by-cpu", crowded::<CpuId>),
    Test::new("structures/bytes-by-concurrency-id", crowded::<MmCid>),
];

const ROOM: usize = 1008;
/// Writer, number, and a mix of both, as 12 bytes.
const RECORD: usize = 12;

fn record(writer: u32, number: u32) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    let words = [writer, number, writer.rotate_left(16) ^ !number];
    for (to, from) in bytes
        .iter_mut()
        .zip(words.iter().flat_map(|word| word.to_le_bytes()))
    {
        *to = from;
    }
    bytes
}

struct Subject<I: Index> {
    log: Bytes<'static, ROOM, I>,
    rounds: u32,
    /// The number of stored records, and the sum of their numbers.
    stored: [AtomicUsize; 2],
    refused: AtomicUsize,
}

impl<I: Index> Subject<I> {
    fn store(&self, writer: u32, number: u32) -> bool {
        match self.log.push(here::<I>(), &record(writer, number)) {
            Ok(()) => {
                let [count, sum] = &self.stored;
                count.fetch_add(1, Relaxed);
                sum.fetch_add(number as usize, Relaxed);
                true
            }
            Err(NotPushed::Full | NotPushed::Busy) => {
                self.refused.fetch_add(1, Relaxed);
                false
            }
        }
    }
}

impl<I: Index> Work for Subject<I> {
    fn work(&self, writer: usize) {
        for number in 0..self.rounds {
            while !self.store(writer as u32, number) {
                sched::relax();
            }
        }
    }

    fn handle(&self) {
        self.store(u32::MAX, 1);
    }
}

/// The collected records: their count, and the sum of their numbers.
#[derive(Default)]
struct Found {
    count: usize,
    sum: usize,
}

impl Found {
    fn read(&mut self, bytes: &[u8]) {
        let (records, rest) = bytes.as_chunks::<RECORD>();
        assert!(
            rest.is_empty(),
            "half a record at the end of {}",
            bytes.len()
        );
        for bytes in records {
            let mut words = bytes
                .as_chunks::<4>()
                .0
                .iter()
                .copied()
                .map(u32::from_le_bytes);
            let mut next = || words.next().unwrap();
            let (writer, number) = (next(), next());
            assert_eq!(
                record(writer, number),
                *bytes,
                "a record of {writer} is mixed with another"
            );
            self.count += 1;
            self.sum += number as usize;
        }
    }

    fn drain<I: Index>(&mut self, subject: &Subject<I>, fence: &Fence) {
        for slot in 0..SLOTS {
            match subject.log.drain(slot, fence, |bytes| self.read(bytes)) {
                Ok(_) | Err(DrainError::Busy) => {}
                Err(why) => panic!("the drain of slot {slot}: {why:?}"),
            }
        }
        // Busy: a push is in progress, and is collected the next time.
        let _ = subject.log.drain_overflow(|bytes| self.read(bytes));
    }
}

pub(crate) fn crowded<I: Index>(ctx: &Ctx<'_>) {
    crowd::begin(ctx);
    let subject = place(Subject {
        log: fresh::bytes::<ROOM, I>(),
        rounds: crowd::rounds(ctx, 300, 20, 20) as u32,
        stored: [const { AtomicUsize::new(0) }; 2],
        refused: AtomicUsize::new(0),
    });
    let fence = Fence::register();
    let mut found = Found::default();
    let [stopped, shipped] = crowd::run::<_, I>(ctx, subject, || found.drain(subject, &fence));
    found.drain(subject, &fence);
    let [count, sum] = subject.stored.each_ref().map(|stored| stored.load(Relaxed));
    assert_eq!(found.count, count, "records");
    assert_eq!(found.sum, sum, "not the same records");
    passed!(
        "{count} records, {} times no room, aborted at a stop {stopped}, without {shipped}",
        subject.refused.load(Relaxed)
    );
}
