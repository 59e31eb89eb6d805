//! The configuration for every auxv, including absurd ones.

use crate::fake::generation::LINUX_7_1;
use crate::fake::{Machine, PLAIN};
use rseq_rt::{Claim, Config, Owner, Process};

/// AT_RSEQ_FEATURE_SIZE, AT_RSEQ_ALIGN, then the expected length and the size of the fields.
type Row = (Option<usize>, Option<usize>, u32, u32);

const ROWS: [Row; 34] = [
    // Released kernels.
    (None, None, 32, 20),
    (Some(28), Some(32), 32, 28),
    (Some(33), Some(64), 33, 33),
    // Possible later kernels.
    (Some(20), Some(32), 32, 20),
    (Some(24), Some(32), 32, 24),
    (Some(32), Some(32), 32, 32),
    (Some(48), Some(64), 48, 48),
    (Some(64), Some(64), 64, 64),
    // Too large for an Area.
    (Some(65), Some(128), 32, 32),
    (Some(65), Some(64), 32, 32),
    (Some(200), Some(256), 32, 32),
    (Some(200), Some(64), 32, 32),
    (Some(33), Some(128), 32, 32),
    (Some(48), Some(1 << 20), 32, 32),
    (Some(33), Some(1 << 63), 32, 32),
    // Only one of the two.
    (Some(33), None, 33, 33),
    (Some(28), None, 32, 28),
    (None, Some(64), 32, 20),
    (None, Some(0), 32, 20),
    // Nonsense.
    (Some(0), Some(32), 32, 20),
    (Some(1), Some(32), 32, 20),
    (Some(19), Some(32), 32, 20),
    (Some(21), Some(32), 32, 21),
    (Some(65535), Some(64), 32, 32),
    (Some(65536), Some(64), 32, 20),
    (Some(u32::MAX as usize), Some(64), 32, 20),
    (Some(u32::MAX as usize + 34), Some(64), 32, 20),
    (Some(usize::MAX), Some(64), 32, 20),
    (Some(33), Some(0), 32, 32),
    (Some(33), Some(3), 32, 32),
    (Some(33), Some(63), 32, 32),
    (Some(33), Some(usize::MAX), 32, 32),
    (Some(33), Some(1), 33, 33),
    (Some(33), Some(32), 33, 33),
];

const AT_NULL: usize = 0;
const AT_PAGESZ: usize = 6;
const AT_RSEQ_FEATURE_SIZE: usize = 27;
const AT_RSEQ_ALIGN: usize = 28;

#[test]
fn every_row() {
    for (size, align, length, fields) in ROWS {
        let config = Config::new(size, align);
        let found = (config.length(), config.feature_size());
        assert_eq!(found, (length, fields), "{size:?} {align:?}");
        let legacy = config.legacy_length();
        let found = (legacy.length(), legacy.feature_size());
        assert_eq!(found, (32, fields.min(32)), "legacy, {size:?} {align:?}");
        assert_eq!(legacy.length().max(20), 32);
    }
}

#[test]
fn the_same_from_entries_and_from_memory() {
    for (size, align, ..) in ROWS {
        let mut auxv = vec![[AT_PAGESZ, 4096]];
        auxv.extend(align.map(|align| [AT_RSEQ_ALIGN, align]));
        auxv.extend(size.map(|size| [AT_RSEQ_FEATURE_SIZE, size]));
        auxv.push([AT_NULL, 0]);
        // Other memory follows AT_NULL.
        auxv.push([AT_RSEQ_FEATURE_SIZE, 64]);
        let expected = Config::new(size, align);
        let entries = auxv.iter().map(|&[kind, value]| (kind, value));
        assert_eq!(Config::from_entries(entries), expected);
        // SAFETY: from_auxv (1): pairs, with an AT_NULL among them.
        assert_eq!(unsafe { Config::from_auxv(auxv.as_ptr()) }, expected);
    }
}

#[test]
fn odd_vectors() {
    let absent = Config::new(None, None);
    assert_eq!(Config::from_entries([]), absent);
    let null_first = [(AT_NULL, 0), (AT_RSEQ_FEATURE_SIZE, 33)];
    assert_eq!(Config::from_entries(null_first), absent);
    let unterminated = [(AT_RSEQ_FEATURE_SIZE, 28)];
    let expected = Config::new(Some(28), None);
    assert_eq!(Config::from_entries(unterminated), expected);
    let twice = [(AT_RSEQ_FEATURE_SIZE, 33), (AT_RSEQ_FEATURE_SIZE, 28)];
    assert_eq!(Config::from_entries(twice), expected, "the last one counts");
    // A type that matches one of ours only in its low half.
    let high = 1 << 32;
    let wide = [(high | AT_RSEQ_FEATURE_SIZE, 33), (high | AT_NULL, 0)];
    assert_eq!(Config::from_entries(wide), absent);
    // SAFETY: from_auxv (1): one pair, AT_NULL.
    let alone = unsafe { Config::from_auxv([[AT_NULL, 0]].as_ptr()) };
    assert_eq!(alone, absent);
}

#[test]
fn the_word_of_the_runtime() {
    assert_eq!(
        Config::new(None, None).disabled(),
        Config::new(None, None).claim(Claim::Disabled)
    );
    let machine = Machine::new(LINUX_7_1, PLAIN);
    let process = Process::with_kernel(&machine);
    let owner = process.init(Config::new(None, None).disabled());
    assert_eq!(owner, Ok(Some(Owner::Nobody)));
    assert_eq!((process.length(), process.feature_size()), (0, 0));
}
