//! The overflow slot of a list: a stack shared by all threads, lock-free and async-signal-safe.
//!
//! A pop that reads the second node's address out of the first one would have to know that the first is still the first
//! (ABA), and even that it is still mapped. So a pop takes the *whole* stack by one exchange, keeps the first
//! node and puts the rest back. Nobody holds a lock: a thread that is interrupted in between makes others see an empty
//! stack for that while, and they are told [`PopError::Busy`].

use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

use super::link::{END, Links};
use super::thread::ThreadSections;
use crate::percpu::Index;

/// Why a pop returned nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PopError {
    /// The thread's slot and the overflow slot were found empty.
    Empty,
    /// For the moment only, or for this thread only: another thread had the overflow slot in hand, a drain had the slot, or
    /// the section was aborted each time.
    Busy,
}

/// The stack.
#[derive(Debug)]
pub(super) struct Stack {
    first: AtomicUsize,
    /// Takers, of those who have not yet put the rest back in the low half, of all that ever began in the high half.
    takers: AtomicUsize,
}

const TAKER: usize = 1 | 1 << 32;

/// How many have the stack in hand.
const fn in_hand(takers: usize) -> u32 {
    takers as u32
}

impl Stack {
    pub(super) const fn new() -> Self {
        Self {
            first: AtomicUsize::new(END),
            takers: AtomicUsize::new(0),
        }
    }

    /// # Safety
    /// 1. The links from `first` to `last` belong to the caller, until they are popped.
    pub(super) unsafe fn push<I: Index, S: ThreadSections<I>>(
        &self,
        here: S,
        first: usize,
        last: usize,
    ) {
        // SAFETY: at (1) by (1).
        let last = unsafe { Links::at(last) };
        let mut seen = self.first.load(Relaxed);
        loop {
            last.store(seen, Relaxed);
            here.between();
            // If `seen` went and came back meanwhile, it is the first one all the same: a push has no ABA.
            match self
                .first
                .compare_exchange_weak(seen, first, Release, Relaxed)
            {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    pub(super) fn pop<I: Index, S: ThreadSections<I>>(&self, here: S) -> Result<usize, PopError> {
        // Empty is what was empty while nobody had it in hand; the count of takers tells that nobody had in between.
        let before = self.takers.load(SeqCst);
        here.between();
        if self.first.load(SeqCst) == END {
            here.between();
            let quiet = in_hand(before) == 0 && self.takers.load(SeqCst) == before;
            return Err(if quiet {
                PopError::Empty
            } else {
                PopError::Busy
            });
        }
        // Before the exchange, so that whoever finds the stack empty because of us can see that.
        self.takers.fetch_add(TAKER, SeqCst);
        here.between();
        let first = self.first.swap(END, SeqCst);
        here.between();
        if first != END {
            // SAFETY: at (1): the whole stack is ours since the exchange.
            let rest = unsafe { Links::at(first) }.load(Relaxed);
            if rest != END {
                // SAFETY: put_back (1) likewise.
                unsafe { self.put_back(here, rest) };
            }
        }
        self.takers.fetch_sub(1, SeqCst);
        // It was not empty a moment ago, so somebody else has what was there.
        if first == END {
            Err(PopError::Busy)
        } else {
            Ok(first)
        }
    }

    /// # Safety
    /// 1. The links from `rest` on belong to the caller, until they are popped.
    unsafe fn put_back<I: Index, S: ThreadSections<I>>(&self, here: S, rest: usize) {
        if self
            .first
            .compare_exchange(END, rest, Release, Relaxed)
            .is_ok()
        {
            return;
        }
        here.between();
        // Pushed meanwhile: few, where ours may be many. So ours go in, and the end of theirs is looked for.
        let newer = self.first.swap(rest, AcqRel);
        if newer != END {
            // SAFETY: last_of and push (1): what was there is ours since the exchange.
            unsafe { self.push(here, newer, Links::last_of(newer)) };
        }
    }

    /// In a fork child: takers that are not there have nothing in hand any more.
    pub(super) fn forget_takers(&self) {
        let takers = self.takers.load(Relaxed);
        self.takers
            .store(takers - in_hand(takers) as usize, Relaxed);
    }

    pub(super) fn looks_empty(&self) -> bool {
        self.first.load(Relaxed) == END
    }

    /// All of it.
    pub(super) fn take(&self) -> usize {
        self.first.swap(END, Acquire)
    }
}
