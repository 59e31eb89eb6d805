//! The storage of the tests, and what the operations do with it.

use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed};

use rseq_rt::percpu::{Index, Slots};

/// Values that an array holds.
pub const ROOM: usize = 16;
/// Records that a buffer holds.
pub const RECORDS: usize = 8;
/// Words of a record: long enough to be torn.
pub const WORDS: usize = 5;

#[repr(C, align(1024))]
pub struct Slot {
    /// A sum, or how many values or records there are, or were.
    pub word: AtomicUsize,
    /// What a second comparison looks at; the pointer of the add through one.
    pub second: AtomicUsize,
    /// Where that pointer leads.
    pub far: AtomicUsize,
    pub head: AtomicPtr<Node>,
    pub values: [AtomicUsize; ROOM],
    pub records: [[AtomicUsize; WORDS]; RECORDS],
}

#[repr(C)]
pub struct Node {
    /// How often it was found at the end. Before the link, whose address is so not the node's.
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
/// From [`Slot::second`]'s pointer, which shows [`Slot::second`] itself, to [`Slot::far`].
pub const FAR: isize = (offset_of!(Slot, far) - offset_of!(Slot, second)) as isize;
pub const NEXT: isize = offset_of!(Node, next) as isize;

/// One for each CPU that a machine of ours has; more miss, and are counted on the overflow side.
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

/// The first few, for tests that look at all of them again and again.
pub fn few<I: Index>() -> Option<Slots<'static, I, Slot>> {
    STORAGE.get(..8).and_then(|few| Slots::new(few).ok())
}

/// Empty, for the next cell. Nobody uses them.
pub fn clear() {
    for slot in &STORAGE {
        slot.word.store(0, Relaxed);
        let at = slot.second.as_ptr().expose_provenance();
        slot.second.store(at, Relaxed);
        slot.far.store(0, Relaxed);
        slot.head.store(core::ptr::null_mut(), Relaxed);
    }
}

/// All slots, for whoever counts at the end.
pub fn all() -> impl Iterator<Item = &'static Slot> {
    STORAGE.iter()
}
