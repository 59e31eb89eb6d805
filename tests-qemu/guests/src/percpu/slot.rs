//! The storage of the tests, and the operations on it.

use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed};

use rseq_rt::percpu::{Index, Slots};

/// Capacity of an array.
pub const ROOM: usize = 16;
/// Capacity of a buffer, in records.
pub const RECORDS: usize = 8;
/// Words of a record: long enough to be torn.
pub const WORDS: usize = 5;

#[repr(C, align(1024))]
pub struct Slot {
    /// A sum, or the number of values or records, now or so far.
    pub word: AtomicUsize,
    /// The operand of a second comparison; the pointer of the add through one.
    pub second: AtomicUsize,
    /// The target of that pointer.
    pub far: AtomicUsize,
    pub head: AtomicPtr<Node>,
    pub values: [AtomicUsize; ROOM],
    pub records: [[AtomicUsize; WORDS]; RECORDS],
}

impl Slot {
    /// The pointer in `second`.
    pub fn target(&self) -> usize {
        self.head.as_ptr().expose_provenance()
    }
}

#[repr(C)]
pub struct Node {
    /// How often it was found at the end. Before the link, so that the link's address is not the node's.
    pub found: AtomicU64,
    pub next: AtomicUsize,
}

impl Node {
    pub const fn new() -> Self {
        Self {
            found: AtomicU64::new(0),
            next: AtomicUsize::new(0),
        }
    }
}

pub const WORD: usize = offset_of!(Slot, word);
pub const SECOND: usize = offset_of!(Slot, second);
pub const HEAD: usize = offset_of!(Slot, head);
pub const VALUES: usize = offset_of!(Slot, values);
pub const BYTES: usize = offset_of!(Slot, records);
/// Offset of [`Slot::far`] from the target of [`Slot::second`]'s pointer, which is not `second`: an add that does not follow
/// the pointer changes another word.
pub const FAR: isize = offset_of!(Slot, far) as isize - offset_of!(Slot, head) as isize;
pub const NEXT: isize = offset_of!(Node, next) as isize;

/// One per CPU of our machines; threads beyond that miss, and are counted as overflow.
const SLOTS: usize = 256;

pub const fn new<const N: usize>() -> [Slot; N] {
    [const {
        Slot {
            word: AtomicUsize::new(0),
            second: AtomicUsize::new(0),
            far: AtomicUsize::new(0),
            head: AtomicPtr::new(core::ptr::null_mut()),
            values: [const { AtomicUsize::new(0) }; ROOM],
            records: [const { [const { AtomicUsize::new(0) }; WORDS] }; RECORDS],
        }
    }; N]
}

static STORAGE: [Slot; SLOTS] = new();

pub fn slots<I: Index>() -> Option<Slots<'static, I, Slot>> {
    Slots::new(&STORAGE).ok()
}

/// The first few, for tests that check all of them repeatedly.
pub fn few<I: Index>() -> Option<Slots<'static, I, Slot>> {
    STORAGE.get(..8).and_then(|few| Slots::new(few).ok())
}

/// Empties the slots for the next cell. No thread uses them.
pub fn clear() {
    for slot in &STORAGE {
        slot.word.store(0, Relaxed);
        slot.second.store(slot.target(), Relaxed);
        slot.far.store(0, Relaxed);
        slot.head.store(core::ptr::null_mut(), Relaxed);
    }
}

/// All slots, for the final count.
pub fn all() -> impl Iterator<Item = &'static Slot> {
    STORAGE.iter()
}
