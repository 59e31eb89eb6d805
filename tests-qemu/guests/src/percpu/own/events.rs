//! The log of `examples/sections`: events in, and all of them out.

use core::sync::atomic::Ordering::Relaxed;

use own_sections::events::sections::{append, take};
use own_sections::events::{Log, ROOM};
use rseq_rt::percpu::{Index, Miss, Slots};

use super::{Attempt, Subject, mixed};
use crate::attempt;

/// Words of an event: two, and the payload.
const WORDS: usize = 6;

pub static LOGS: [Log; 256] = [const { Log::new() }; 256];

pub enum Events {}

fn event(seed: usize) -> [usize; WORDS] {
    core::array::from_fn(|nth| seed ^ mixed(nth))
}

/// The sum of whole events; `None` if one is not.
fn sum_of(words: impl Iterator<Item = usize>) -> Option<usize> {
    let mut words = words.peekable();
    let mut sum = 0usize;
    while let Some(first) = words.next_if(|_| true) {
        let seed = first ^ mixed(0);
        for expected in event(seed).into_iter().skip(1) {
            words.next_if_eq(&expected)?;
        }
        sum = sum.wrapping_add(mixed(seed));
    }
    Some(sum)
}

impl Subject for Events {
    const SECTIONS: usize = 2;
    type Data = [usize; ROOM / 8];

    fn clear() {
        for log in &LOGS {
            log.length().store(0, Relaxed);
        }
    }

    fn data(nth: usize, seed: usize) -> Self::Data {
        let mut data = [0; ROOM / 8];
        if nth == 0 {
            for (word, value) in data.iter_mut().zip(event(seed)) {
                *word = value;
            }
        }
        data
    }

    fn run<I: Index>(
        nth: usize,
        attempt: Attempt<'_, I>,
        data: &mut Self::Data,
    ) -> Result<usize, Miss> {
        let logs = Slots::<I, Log>::of(&LOGS);
        let (log, at) = (logs.address(0), data.as_mut_ptr().expose_provenance());
        let [first, second, ..] = *data;
        // SAFETY: (1) logs that only these sections write while they run, and an event at `at`, or room for a log.
        unsafe {
            match nth {
                0 => attempt!(
                    attempt,
                    append,
                    logs,
                    log,
                    first,
                    second,
                    at + 16,
                    (WORDS - 2) * 8
                ),
                _ => attempt!(attempt, take, logs, log, at, 0),
            }
        }
    }

    fn change(nth: usize, data: &Self::Data, result: usize) -> usize {
        let words = if nth == 0 { WORDS } else { result / 8 };
        // Data other than events changes the sum by a value that no event has.
        let sum = sum_of(data.iter().take(words).copied()).unwrap_or(0x5a5a);
        if nth == 0 { sum } else { sum.wrapping_neg() }
    }

    fn held(slot: usize) -> usize {
        LOGS[slot].length().load(Relaxed)
    }

    fn sum() -> Option<usize> {
        let mut sum = 0usize;
        for log in &LOGS {
            let words = log.published().iter().map(|word| word.load(Relaxed));
            sum = sum.wrapping_add(sum_of(words)?);
        }
        Some(sum)
    }
}
