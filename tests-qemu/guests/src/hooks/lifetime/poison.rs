//! Memory that nobody may write to, and a thread that keeps laying it out where stacks have just been.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::errno::Errno;
use crate::sys::mm::{self, Access};
use crate::sys::sched;
use crate::thread::{self, Joinable};

/// No address of any user, no tid and no CPU; and no 0, which is what clear-tid would write.
const WORD: u64 = 0xa5a5_a5a5_a5a5_a5a5;

pub struct Poison {
    base: *mut u8,
    len: usize,
}

impl Poison {
    /// A new mapping full of it.
    pub fn map(len: usize) -> Result<Self, Errno> {
        let base = mm::map(len, Access::ReadWrite).unwrap();
        // SAFETY: fill (1) a new mapping.
        Ok(unsafe { Self::fill(base, len) })
    }

    /// Fills the words between `base` and `base + len`.
    ///
    /// # Safety
    /// 1. The memory is writable and word-aligned, and nobody is meant to use it.
    pub unsafe fn fill(base: *mut u8, len: usize) -> Self {
        let poison = Self { base, len };
        for word in poison.words() {
            // SAFETY: 1.
            unsafe { word.write_volatile(WORD) };
        }
        poison
    }

    fn words(&self) -> impl Iterator<Item = *mut u64> + use<> {
        let base = self.base.cast::<u64>();
        (0..self.len / size_of::<u64>()).map(move |word| base.wrapping_add(word))
    }

    /// The offset of the first word that somebody has changed, and what it is now.
    pub fn stray(&self) -> Option<(usize, u64)> {
        self.words()
            .map(|word| {
                // SAFETY: readable as long as this value lives: `fill` (1).
                let now = unsafe { word.read_volatile() };
                (word.addr() - self.base.addr(), now)
            })
            .find(|&(_, now)| now != WORD)
    }

    #[track_caller]
    pub fn assert_clean(&self) {
        if let Some((offset, now)) = self.stray() {
            panic!("a stray write of {now:#x} at offset {offset}");
        }
    }

    /// Unmaps it.
    ///
    /// # Safety
    /// 1. It is a mapping of its own, and nobody's memory.
    pub unsafe fn unmap(self) -> Result<(), Errno> {
        // SAFETY: 1.
        unsafe { mm::unmap(self.base, self.len) }
    }
}

struct Shared {
    len: usize,
    over: AtomicBool,
    rounds: AtomicU64,
}

/// A thread that maps, poisons, checks and unmaps ranges of one size.
#[must_use]
pub struct Poisoner(Joinable<Shared>);

impl Poisoner {
    /// Starts it. `len` is the length of the mappings that others leave behind.
    pub fn start(len: usize) -> Result<Self, Errno> {
        let shared = Shared {
            len,
            over: AtomicBool::new(false),
            rounds: AtomicU64::new(0),
        };
        thread::start(32 * 1024, shared, Self::rounds).map(Self)
    }

    fn rounds(shared: &Shared) {
        // Several at a time, so that a range lies there poisoned while others come and go.
        let mut ranges = [const { None::<Poison> }; 4];
        while !shared.over.load(Relaxed) {
            for range in &mut ranges {
                Self::renew(range, Poison::map(shared.len).ok());
                shared.rounds.fetch_add(1, Relaxed);
            }
            sched::relax();
        }
        for range in &mut ranges {
            Self::renew(range, None);
        }
    }

    fn renew(range: &mut Option<Poison>, next: Option<Poison>) {
        if let Some(old) = core::mem::replace(range, next) {
            old.assert_clean();
            // SAFETY: unmap (1) mapped by `rounds`.
            let _ = unsafe { old.unmap() };
        }
    }

    /// Stops it, and returns how many ranges it laid out.
    pub fn stop(self) -> Result<u64, Errno> {
        self.0.payload().over.store(true, Relaxed);
        let rounds = self.0.payload().rounds.load(Relaxed);
        self.0.join().map(|()| rounds)
    }
}
