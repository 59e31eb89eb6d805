//! Each operation once, on one thread, with its effect checked: all or nothing. No atomic read-modify-write: on CPUs
//! where that is a loop of exclusive loads and stores, a single-stepped thread never leaves it, and one that is stepped
//! over both is not stopped at each.

use core::hint::black_box;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

use rseq_rt::percpu::{Commit, Current, Index, Miss, Operation, Slots};

use super::slot::{BYTES, FAR, HEAD, NEXT, Node, RECORDS, SECOND, Slot, VALUES, WORD, WORDS};
use crate::arch::fill_registers;

pub const OPS: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Committed exactly once.
    Done,
    /// It missed, and nothing was changed.
    Missed(Miss),
    /// Its result and its effect disagree.
    Wrong,
}

fn total<I: Index>(slots: Slots<'_, I, Slot>, word: impl Fn(&Slot) -> usize) -> usize {
    slots
        .iter()
        .fold(0, |sum, slot| sum.wrapping_add(word(slot)))
}

fn word(slot: &Slot) -> usize {
    slot.word.load(SeqCst)
}

/// The `nth` operation, which adds one to something, or moves `node`. Restarted up to the bound of `current`. `around`
/// is called just before the section and just after it.
pub fn once<I: Index>(
    nth: usize,
    current: Current<'_, I>,
    slots: Slots<'_, I, Slot>,
    commit: Commit,
    node: &Node,
    around: impl Fn(),
) -> End {
    let before = total(slots, word);
    let far = total(slots, |slot| slot.far.load(SeqCst));
    let at = core::ptr::from_ref(node).expose_provenance();
    let is_listed = || slots.iter().any(|slot| slot.head.load(SeqCst).addr() == at);
    let was_listed = is_listed();
    let full = [0x5a5a_usize, 2, 3, 4, 5];
    // The current values, as the caller of a comparing operation reads them.
    let looked = slots.get(current.id()).map(|slot| {
        let head = slot.head.load(Relaxed).expose_provenance();
        (slot.word.load(Relaxed), slot.second.load(Relaxed), head)
    });
    // Without a slot there are no values, and the section must detect that itself.
    let (expect, second, head) = looked.unwrap_or_default();
    let new = expect.wrapping_add(1);
    let record = BYTES + expect % RECORDS * (WORDS * 8);
    let value = VALUES + 8 * (expect % 8);
    for slot in slots.iter() {
        slot.values[expect % 8].store(0, Relaxed);
        for word in &slot.records[expect % RECORDS] {
            word.store(0, Relaxed);
        }
    }
    let heads = || total(slots, |slot| slot.head.load(SeqCst).addr());
    let heads_before = heads();
    let next = node.next.load(Relaxed);
    if nth == 5 {
        node.next.store(0x5a5a, Relaxed);
    }
    let (source, length) = (full.as_ptr().cast(), size_of_val(&full));
    #[rustfmt::skip] // a table
    let operation = match nth {
        0 => Operation::Add { word: WORD, value: 1 },
        // Not in one register with the number of slots, if that is the same: another text of the section.
        1 => Operation::AddThrough { word: SECOND, offset: black_box(FAR), value: 1 },
        2 => Operation::CompareAndStore { word: WORD, expect, new },
        3 => Operation::CompareTwoAndStore { word: WORD, expect, second: SECOND, expect_second: second, new },
        4 => Operation::CompareStoreAndStore { word: WORD, expect, second: value, value: 77, new },
        5 => Operation::CompareLinkAndStore { word: HEAD, expect: head, link: node.next.as_ptr(), new: at },
        6 => Operation::Pop { word: HEAD, empty: core::ptr::null_mut(), link: NEXT },
        _ => Operation::CompareCopyAndStore { word: WORD, expect, offset: record, source, length, new },
    };
    around();
    fill_registers();
    // SAFETY: (1, 2, 3) the words of `Slot`, and a node that is in no list or in this one.
    let result = unsafe { current.run(slots, operation, commit) };
    around();
    let after = total(slots, word);
    let moved = total(slots, |slot| slot.far.load(SeqCst)).wrapping_sub(far);
    let changed = match nth {
        1 => moved,
        // The node was pushed or popped.
        5 | 6 => usize::from(is_listed() != was_listed),
        _ => after.wrapping_sub(before),
    };
    // Data written before the commit is in the same slot as the commit.
    let is_whole = slots.iter().any(|slot| {
        let record = slot.records[expect % RECORDS].iter();
        let mut record = record.map(|word| word.load(Relaxed));
        slot.word.load(Relaxed) == new
            && match nth {
                4 => slot.values[expect % 8].load(Relaxed) == 77,
                _ => full.iter().all(|&word| record.next() == Some(word)),
            }
    });
    let heads_moved = heads().wrapping_sub(heads_before);
    let is_linked = match nth {
        5 => node.next.load(Relaxed) == head && heads_moved == at.wrapping_sub(head),
        6 => heads_moved == next.wrapping_sub(at),
        _ => true,
    };
    match result {
        Ok(_) if !is_linked => End::Wrong,
        Ok(_) if matches!(nth, 4 | 7) && !is_whole => End::Wrong,
        Ok(_) if changed == 1 => End::Done,
        Err(miss) if changed == 0 => End::Missed(miss),
        _ => End::Wrong,
    }
}
