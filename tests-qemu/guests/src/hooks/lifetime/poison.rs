//! Memory that nobody may write to, and a thread that keeps mapping it where stacks have just been.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::errno::Errno;
use crate::sys::mm::{self, Access};
use crate::sys::sched;
use crate::thread::{self, Joinable};

/// No user address, no tid and no CPU; nor 0, which clear-tid would write.
const WORD: u64 = 0xa5a5_a5a5_a5a5_a5a5;

pub struct Poison {
    base: *mut u8,
    len: usize,
}

impl Poison {
    /// A new mapping filled with poison.
    pub fn map(len: usize) -> Result<Self, Errno> {
        let base = mm::map(len, Access::ReadWrite).unwrap();
        // SAFETY: fill (1) a new mapping.
        Ok(unsafe { Self::fill(base, len) })
    }

    /// Fills the words between `base` and `base + len`.
    ///
    /// # Safety
    /// 1. The memory is writable and word-aligned, and nobody else uses it.
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

    /// The offset and new value of the first word that was changed.
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

    /// Unmaps the range.
    ///
    /// # Safety
    /// 1. It is a separate mapping that nobody uses.
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
    /// Starts the thread. `len` is the length of the mappings that others leave behind.
    pub fn start(len: usize) -> Result<Self, Errno> {
        let shared = Shared {
            len,
            over: AtomicBool::new(false),
            rounds: AtomicU64::new(0),
        };
        thread::start(32 * 1024, shared, Self::rounds).map(Self)
    }

    fn rounds(shared: &Shared) {
        // Several at a time, so that one range stays poisoned while others come and go.
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

    /// Stops the thread, and returns the number of ranges it mapped.
    pub fn stop(self) -> Result<u64, Errno> {
        self.0.payload().over.store(true, Relaxed);
        let rounds = self.0.payload().rounds.load(Relaxed);
        self.0.join().map(|()| rounds)
    }
}
