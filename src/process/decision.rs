//! The decision of the process, as one word.

use crate::process::config::Config;
use crate::process::state::{LIBC, Owner, REGISTERED, Reason, UNAVAILABLE};
use crate::sys::abi::{FEATURE_SIZE_SLICE_CTRL, FLAG_SLICE_EXT_DEFAULT_ON, LEGACY_LENGTH};

/// The decision, or the attempt that comes next: one word in memory, so that all its parts are of one decision.
///
/// ```text
///    31..16   15             14..12   11                10            9..8    7..0
///   | length | initializing | 0      | kernel lays out | wants slice | flags | kind |
/// ```
///
/// The kind is 0 before `init` has ended, [`UNDECIDED`] while the first registration is to tell, and else the outcome of a
/// thread: of each one, but where this runtime owns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Decision(u32);

const KIND: u32 = 0xff;
const UNDECIDED: u32 = 4;
/// The libc owns it, says the runtime, and does not show where.
const LIBC_UNSEEN: u32 = UNAVAILABLE | Reason::Taken as u32;
const FLAGS_SHIFT: u32 = 8;
const ARMS_SLICE: u32 = FLAG_SLICE_EXT_DEFAULT_ON << FLAGS_SHIFT;
const WANTS_SLICE: u32 = 1 << 10;
const KERNEL_LAYS_OUT: u32 = 1 << 11;
const LENGTH_SHIFT: u32 = 16;

impl Decision {
    /// Before `init`.
    pub(crate) const UNINITIALIZED: Self = Self(0);
    /// `init` has begun.
    pub(crate) const INITIALIZING: Self = Self(1 << 15);

    pub(crate) const fn from_word(word: u32) -> Self {
        Self(word)
    }

    pub(crate) const fn word(self) -> u32 {
        self.0
    }

    /// The first registration that succeeds will tell, or a kernel that has no rseq.
    pub(crate) const fn undecided(config: &Config) -> Self {
        let mut word = UNDECIDED | config.length << LENGTH_SHIFT;
        if config.slice_extension {
            word |= WANTS_SLICE;
            if config.length >= FEATURE_SIZE_SLICE_CTRL {
                word |= ARMS_SLICE;
            }
        }
        if config.kernel_lays_out() {
            word |= KERNEL_LAYS_OUT;
        }
        Self(word)
    }

    const fn with_kind(self, kind: u32) -> Self {
        Self(self.0 & !KIND | kind)
    }

    /// Nobody registers.
    pub(crate) const fn nobody(self, reason: Reason) -> Self {
        self.with_kind(UNAVAILABLE | reason as u32)
    }

    /// The libc owns it and says where, or does not.
    pub(crate) const fn libc(self, is_seen: bool) -> Self {
        self.with_kind(if is_seen { LIBC } else { LIBC_UNSEEN })
    }

    /// This runtime owns it, and registers as here.
    pub(crate) const fn runtime(self) -> Self {
        self.with_kind(REGISTERED)
    }

    const fn kind(self) -> u32 {
        self.0 & KIND
    }

    pub(crate) const fn is_initialized(self) -> bool {
        self.kind() != 0
    }

    pub(crate) const fn is_open(self) -> bool {
        self.kind() == UNDECIDED
    }

    /// The outcome of every thread, in a process that asks no kernel.
    pub(crate) const fn outcome(self) -> Option<u32> {
        match self.kind() {
            kind if kind & (LIBC | UNAVAILABLE) != 0 => Some(kind),
            _ => None,
        }
    }

    pub(crate) const fn owner(self) -> Option<Owner> {
        match self.kind() {
            REGISTERED => Some(Owner::Runtime),
            LIBC | LIBC_UNSEEN => Some(Owner::Libc),
            kind if kind & UNAVAILABLE != 0 => Some(Owner::Nobody),
            _ => None,
        }
    }

    pub(crate) fn reason(self) -> Option<Reason> {
        Reason::from_code((self.kind() ^ UNAVAILABLE) as u8)
    }

    /// Bytes that a registration states.
    pub(crate) const fn length(self) -> u32 {
        self.0 >> LENGTH_SHIFT
    }

    /// The flags of a registration.
    pub(crate) const fn flags(self) -> u32 {
        self.0 >> FLAGS_SHIFT & FLAG_SLICE_EXT_DEFAULT_ON
    }

    /// The wish of the configuration, whatever came of it.
    pub(crate) const fn wants_slice(self) -> bool {
        self.0 & WANTS_SLICE != 0
    }

    pub(crate) const fn kernel_lays_out(self) -> bool {
        self.0 & KERNEL_LAYS_OUT != 0
    }

    /// The attempt after EINVAL. A kernel without the extension answers EINVAL, and rr and gVisor take only 32 bytes
    /// whatever auxv says. Once the process has decided its length holds, and the extension is still each thread's: a filter of
    /// its own may refuse the flag, or the kernel of a restored process. `None`: EINVAL means that the thread is taken.
    pub(crate) const fn weaker(self) -> Option<Self> {
        if self.flags() != 0 {
            Some(Self(self.0 & !ARMS_SLICE))
        } else if self.is_open() && self.length() > LEGACY_LENGTH {
            let rest = self.0 & !(u32::MAX << LENGTH_SHIFT);
            Some(Self(rest | LEGACY_LENGTH << LENGTH_SHIFT))
        } else {
            None
        }
    }
}
