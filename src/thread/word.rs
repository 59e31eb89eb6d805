//! The word of one thread: all that the crate itself knows of it, in 32 bits beside the kernel's structure.
//!
//! The thread, its signal handlers and a vfork child that shares its memory change it, and each change is one atomic
//! read-modify-write: whoever interrupts sees the word before it or after it. `Relaxed` is enough, since all of them
//! run on one thread, or while it is suspended; another thread only looks.
//!
//! ```text
//!    31     30      29        28        27..16   15        14..8   7..0
//!   | 0 | slice | created | written | errno  | exiting | loans | outcome |
//! ```
//!
//! `docs/lifecycle.md` has the diagram of its transitions, each arrow with who takes it and what may interrupt it.
//!
//! *Written* says that the kernel may write to the area: from the claim until the kernel has refused it or let it go.
//! It is what release asks, whatever the outcome says.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use crate::process::state::{LIBC, Owner, REGISTERED, Reason, State, UNAVAILABLE};
use crate::sys::error::{Errno, Error};

/// The word in memory.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Word(AtomicU32);

/// The word as it was at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seen(u32);

const OUTCOME: u32 = 0xff;
const LOANS: u32 = 0x7f << LOANS_SHIFT;
const LOANS_SHIFT: u32 = 8;
const EXITING: u32 = 1 << 15;
const ERRNO: u32 = 0xfff << ERRNO_SHIFT;
const ERRNO_SHIFT: u32 = 16;
const WRITTEN: u32 = 1 << 28;
const CREATED: u32 = 1 << 29;
const SLICE: u32 = 1 << 30;

/// The bits compared by a fast path: the outcome, and all that may stand in its way.
pub(crate) const LOW_HALF: u32 = OUTCOME | LOANS | EXITING;

/// How many loans of one area can be told apart.
const MAXIMUM_LOANS: u32 = LOANS.count_ones();

/// The outcome of a claim: the bits that its resolution writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome(u32);

impl Outcome {
    /// None yet: whoever has set it registers, and then resolves.
    pub(crate) const CLAIMED: Self = Self(WRITTEN);

    /// The outcome that the process has decided for each thread.
    pub(crate) const fn decided(code: u32) -> Self {
        Self(code)
    }

    /// This runtime has registered the thread, with the slice extension on or off.
    pub(crate) const fn registered(slice: bool) -> Self {
        Self(REGISTERED | WRITTEN | if slice { SLICE } else { 0 })
    }

    /// Nobody has.
    pub(crate) const fn refused(reason: Reason) -> Self {
        Self(UNAVAILABLE | reason as u32)
    }

    /// The kernel knows this very area, says EBUSY.
    pub(crate) const BUSY: Self = Self::refused_by(Errno::BUSY);

    /// The kernel, or a filter, has said why. EBUSY is about this very area: the kernel may write to it.
    pub(crate) const fn refused_by(errno: Errno) -> Self {
        let Self(bits) = Self::refused(Reason::of(errno));
        let written = match errno {
            Errno::BUSY => WRITTEN,
            _ => 0,
        };
        Self(bits | written | (errno.raw() as u32) << ERRNO_SHIFT)
    }

    /// Refused, and nobody has said that the kernel does not know the area.
    pub(crate) const fn or_written(self) -> Self {
        Self(self.0 | WRITTEN)
    }

    pub(crate) const fn is_registered(self) -> bool {
        self.0 & OUTCOME == REGISTERED
    }

    /// Nobody has registered the thread, and the kernel does not write to the area.
    pub(crate) const fn is_refused(self) -> bool {
        self.0 & (UNAVAILABLE | WRITTEN) == UNAVAILABLE
    }

    pub(crate) const fn is(self, reason: Reason) -> bool {
        self.0 & OUTCOME == Self::refused(reason).0
    }
}

impl Word {
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    #[inline]
    pub(crate) fn look(&self) -> Seen {
        Seen(self.0.load(Relaxed))
    }

    /// *admit*: marks the area as created.
    pub(crate) fn admit(&self) -> Result<(), Error> {
        let mut answer = Ok(());
        let _ = self.update(|seen| {
            answer = match seen.state() {
                State::Exiting => Err(Error::Exiting),
                State::Lent => Err(Error::Lent),
                _ if seen.0 & CREATED != 0 => Err(Error::AlreadyCreated),
                _ => Ok(()),
            };
            answer.is_ok().then_some(seen.0 | CREATED)
        });
        answer
    }

    /// *claim*, or *decide*: claim and resolution at once, where no kernel is asked. Tells whether the word was open.
    pub(crate) fn open(&self, outcome: Outcome) -> bool {
        self.update(|seen| seen.is_open().then_some(seen.0 | outcome.0))
            .is_ok()
    }

    /// *resolve*: what came of the claim.
    pub(crate) fn resolve(&self, outcome: Outcome) {
        let kept = LOANS | EXITING | CREATED;
        let _ = self.update(|seen| Some(seen.0 & kept | outcome.0));
    }

    /// *lend*: the number of the loan, from 1; 0 where so many are out already that this one changes nothing.
    pub(crate) fn lend(&self) -> u8 {
        let free = |seen: Seen| (!seen.0 & LOANS) & (!seen.0 & LOANS).wrapping_neg();
        match self.update(|seen| (free(seen) != 0).then_some(seen.0 | free(seen))) {
            Ok(seen) => (free(seen) >> LOANS_SHIFT).trailing_zeros() as u8 + 1,
            Err(_) => 0,
        }
    }

    /// *end*: was there such a loan?
    pub(crate) fn end_loan(&self, loan: u8) -> bool {
        match loan_bit(loan) {
            Some(bit) => self.0.fetch_and(!bit, Relaxed) & bit != 0,
            None => loan == 0,
        }
    }

    /// *latch*: nothing is claimed any more.
    pub(crate) fn latch(&self) {
        self.0.fetch_or(EXITING, Relaxed);
    }

    /// *release*: the kernel has let go.
    pub(crate) fn release(&self) {
        self.0.fetch_and(!WRITTEN, Relaxed);
    }

    /// A refusal of the exit hook: why the area could not be released.
    pub(crate) fn refuse_release(&self, why: Error) {
        let errno = u32::from(why.raw_os_error()) << ERRNO_SHIFT;
        let _ = self.update(|seen| Some(seen.0 & !ERRNO | errno));
    }

    /// *reclaim*: without the loans, and claimed again where this runtime had registered. Tells whether it is claimed.
    pub(crate) fn reclaim(&self) -> bool {
        let before = self.update(|seen| {
            let claimed = seen.0 & OUTCOME == REGISTERED && seen.0 & EXITING == 0;
            let lent = seen.0 & LOANS != 0;
            lent.then_some(seen.0 & !(LOANS | if claimed { OUTCOME | SLICE } else { 0 }))
        });
        before.is_ok_and(|seen| seen.0 & OUTCOME == REGISTERED && seen.0 & EXITING == 0)
    }

    /// *arm*: the extension is on, or off, in the area that this runtime has registered.
    pub(crate) fn set_slice(&self, on: bool) {
        let _ = self.update(|seen| {
            let slice = if on { SLICE } else { 0 };
            seen.is_registered().then_some(seen.0 & !SLICE | slice)
        });
    }

    /// *reset*: a new word.
    pub(crate) fn reset(&self) {
        self.0.swap(0, Relaxed);
    }

    fn update(&self, change: impl FnMut(Seen) -> Option<u32>) -> Result<Seen, Seen> {
        let mut change = change;
        self.0
            .fetch_update(Relaxed, Relaxed, |word| change(Seen(word)))
            .map(Seen)
            .map_err(Seen)
    }
}

/// The bit of a loan's number.
const fn loan_bit(loan: u8) -> Option<u32> {
    if loan >= 1 && loan as u32 <= MAXIMUM_LOANS {
        Some(1 << (LOANS_SHIFT + loan as u32 - 1))
    } else {
        None
    }
}

impl Seen {
    /// A word that no version of this crate writes reads as `Exiting`: touched by nobody.
    pub(crate) fn state(self) -> State {
        if self.0 & EXITING != 0 {
            return State::Exiting;
        }
        if self.0 & LOANS != 0 {
            return State::Lent;
        }
        match self.0 & OUTCOME {
            0 => State::Unregistered,
            REGISTERED => State::Registered(Owner::Runtime),
            LIBC => State::Registered(Owner::Libc),
            outcome => match Reason::from_code((outcome ^ UNAVAILABLE) as u8) {
                Some(reason) => State::Unavailable(reason),
                None => State::Exiting,
            },
        }
    }

    /// Nobody has tried, and somebody may.
    #[inline]
    pub(crate) fn is_open(self) -> bool {
        self.0 & (LOW_HALF | WRITTEN) == 0
    }

    /// No hook and no lazy registration has ever seen the area.
    pub(crate) fn is_untouched(self) -> bool {
        self.0 & (LOW_HALF | WRITTEN | CREATED) == 0
    }

    /// This runtime has registered the thread, and nothing is in the way of using that.
    #[inline]
    pub(crate) fn is_registered(self) -> bool {
        self.0 & LOW_HALF == REGISTERED
    }

    /// The kernel may write to the area.
    pub(crate) fn is_written(self) -> bool {
        self.0 & WRITTEN != 0
    }

    /// Another area of this thread is registered, whatever else is true.
    pub(crate) fn is_taken(self) -> bool {
        self.0 & OUTCOME == UNAVAILABLE | Reason::Taken as u32
    }

    /// The libc has registered the thread, whatever else is true.
    pub(crate) fn is_of_libc(self) -> bool {
        self.0 & OUTCOME == LIBC
    }

    #[inline]
    pub(crate) fn has_slice(self) -> bool {
        self.0 & (LOW_HALF | SLICE) == REGISTERED | SLICE
    }

    /// Is there a loan of that number?
    pub(crate) fn has_loan(self, loan: u8) -> bool {
        loan_bit(loan).is_some_and(|bit| self.0 & bit != 0)
    }

    pub(crate) fn errno(self) -> Option<Errno> {
        Errno::from_raw(((self.0 & ERRNO) >> ERRNO_SHIFT) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_low_half_means_one_thing() {
        for half in 0..=u16::MAX {
            let expected = match half {
                half if half & 0x8000 != 0 => State::Exiting,
                half if half & 0x7f00 != 0 => State::Lent,
                0 => State::Unregistered,
                1 => State::Registered(Owner::Runtime),
                2 => State::Registered(Owner::Libc),
                0x81 => State::Unavailable(Reason::NoSyscall),
                0x82 => State::Unavailable(Reason::Filtered),
                0x83 => State::Unavailable(Reason::Taken),
                0x84 => State::Unavailable(Reason::BadMemory),
                0x85 => State::Unavailable(Reason::Pretended),
                0x86 => State::Unavailable(Reason::Disabled),
                0x87 => State::Unavailable(Reason::Refused),
                _ => State::Exiting,
            };
            assert_eq!(Seen(half.into()).state(), expected, "{half:#x}");
        }
    }

    #[test]
    fn a_claim_is_taken_once() {
        let word = Word::new();
        assert!(word.open(Outcome::CLAIMED) && !word.open(Outcome::CLAIMED));
        assert_eq!(word.look().state(), State::Unregistered);
        assert!(word.look().is_written());
        word.resolve(Outcome::registered(true));
        assert!(
            word.look().is_registered() && word.look().has_slice() && !word.open(Outcome::CLAIMED)
        );
    }

    #[test]
    fn what_needs_no_kernel_is_one_transition() {
        let word = Word::new();
        assert!(word.admit().is_ok());
        assert!(
            word.open(Outcome::decided(LIBC)) && !word.open(Outcome::refused(Reason::Disabled))
        );
        assert_eq!(word.look().state(), State::Registered(Owner::Libc));
        assert!(!word.look().is_written() && !word.open(Outcome::CLAIMED));
        let loan = Word::new();
        assert!(loan.lend() == 1 && !loan.open(Outcome::decided(LIBC)));
    }

    #[test]
    fn loans_end_in_any_order() {
        for order in [[1, 2], [2, 1]] {
            let word = Word::new();
            assert!(word.open(Outcome::CLAIMED));
            assert_eq!([word.lend(), word.lend()], [1, 2]);
            // The claim is resolved under the loans, which stay.
            word.resolve(Outcome::registered(true));
            for loan in order {
                assert_eq!(word.look().state(), State::Lent);
                assert!(!word.look().has_slice() && word.look().has_loan(loan));
                assert!(word.end_loan(loan) && !word.end_loan(loan));
            }
            assert!(word.look().is_registered() && word.look().has_slice());
        }
    }

    #[test]
    fn more_loans_than_can_be_told_apart_change_nothing() {
        let word = Word::new();
        assert!((1..=7).all(|loan| word.lend() == loan));
        assert_eq!(word.lend(), 0);
        assert!(word.end_loan(0), "the one that changed nothing");
        assert!((1..=7).rev().all(|loan| word.end_loan(loan)));
        assert_eq!(word.look(), Seen(0));
        assert!(!word.end_loan(8) && !word.end_loan(255));
    }

    #[test]
    fn nothing_is_claimed_under_a_loan_or_at_the_end() {
        let word = Word::new();
        let loan = word.lend();
        assert!(!word.open(Outcome::CLAIMED) && word.end_loan(loan));
        word.latch();
        assert_eq!(word.look(), Seen(EXITING));
        assert!(!word.open(Outcome::CLAIMED) && word.admit() == Err(Error::Exiting));
        word.reset();
        assert!(word.admit().is_ok() && word.admit() == Err(Error::AlreadyCreated));
    }

    #[test]
    fn a_fork_child_claims_what_was_lent() {
        let word = Word::new();
        assert!(!word.reclaim(), "nothing was lent");
        assert!(word.open(Outcome::CLAIMED));
        word.resolve(Outcome::registered(true));
        assert!(!word.reclaim() && word.look().is_registered());
        word.lend();
        assert!(word.reclaim() && word.look().is_written());
        assert_eq!(word.look().state(), State::Unregistered);
        word.resolve(Outcome::refused_by(Errno::INVAL));
        word.lend();
        assert!(!word.reclaim() && word.look().is_taken());
        assert_eq!(word.look().state(), State::Unavailable(Reason::Taken));
    }
}
