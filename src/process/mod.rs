//! The process: who owns rseq, decided once.

pub(crate) mod config;
pub(crate) mod state;

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicIsize, AtomicU8};

use crate::process::config::{Claim, Config};
use crate::process::state::{Owner, Reason};
use crate::sys::abi::{LEGACY_FEATURE_SIZE, LEGACY_LENGTH};
use crate::sys::error::Error;
use crate::sys::kernel::{Kernel, Linux};
use crate::sys::trio::Trio;

/// What has been decided. One word in memory, so that owner and length are always of one decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    /// Before `init`.
    Uninitialized,
    /// `init` has begun.
    Initializing,
    /// The first registration that succeeds will tell, or a kernel that has no rseq.
    Undecided,
    /// Nobody registers: `NoSyscall` or `Disabled`.
    Nobody(Reason),
    /// The libc owns it and says where.
    Libc,
    /// The libc owns it, says the runtime, and does not show where.
    LibcUnseen,
    /// This runtime, with this length.
    Runtime {
        /// Bytes stated at every registration and unregistration.
        length: u16,
    },
}

impl Decision {
    const fn encode(self) -> u32 {
        match self {
            Self::Uninitialized => 0,
            Self::Initializing => 1,
            Self::Undecided => 2,
            Self::Nobody(reason) => 3 | (reason as u32) << 8,
            Self::Libc => 4,
            Self::LibcUnseen => 5,
            Self::Runtime { length } => 6 | (length as u32) << 16,
        }
    }

    fn decode(word: u32) -> Self {
        match word as u8 {
            1 => Self::Initializing,
            2 => Self::Undecided,
            3 if word >> 8 == Reason::Disabled as u32 => Self::Nobody(Reason::Disabled),
            3 => Self::Nobody(Reason::NoSyscall),
            4 => Self::Libc,
            5 => Self::LibcUnseen,
            6 => Self::Runtime {
                length: (word >> 16) as u16,
            },
            _ => Self::Uninitialized,
        }
    }
}

/// One process's view of rseq: a `static` that the runtime places.
///
/// It is written by [`Self::init`], by the registration that decides ([`Self::owner`] answers from then on), by
/// [`Self::allow_sections`] and [`Self::probe_sections`], and never again: a libc may make its memory read-only after that.
#[derive(Debug)]
pub struct Process<K: Kernel = Linux> {
    pub(crate) kernel: K,
    decision: AtomicU32,
    length: AtomicU32,
    feature_size: AtomicU32,
    wants_slice: AtomicBool,
    asks_for_slice: AtomicBool,
    kernel_lays_out: AtomicBool,
    libc_offset: AtomicIsize,
    pub(crate) sections: AtomicU8,
}

impl Process {
    /// Nothing decided yet, on the real kernel.
    pub const fn new() -> Self {
        Self::with_kernel(Linux)
    }
}

impl Default for Process {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Kernel> Process<K> {
    /// Nothing decided yet, on a kernel of the caller's choice.
    pub const fn with_kernel(kernel: K) -> Self {
        Self {
            kernel,
            decision: AtomicU32::new(Decision::Uninitialized.encode()),
            length: AtomicU32::new(LEGACY_LENGTH),
            feature_size: AtomicU32::new(LEGACY_FEATURE_SIZE),
            wants_slice: AtomicBool::new(false),
            asks_for_slice: AtomicBool::new(false),
            kernel_lays_out: AtomicBool::new(false),
            libc_offset: AtomicIsize::new(0),
            sections: AtomicU8::new(0),
        }
    }

    /// Takes the configuration; once, before any hook, best before a second thread. No system call.
    ///
    /// In this order: the runtime's own word ([`Claim`]); the libc's `__rseq_*`
    /// (size not 0); else the owner stays open until the first create hook,
    /// whose registration is itself the probe: the one honest question to the
    /// kernel is a valid registration, so none is spent on asking.
    ///
    /// Returns the owner if it is known already.
    ///
    /// # Errors
    /// `AlreadyInitialized`; nothing is changed.
    pub fn init(&self, config: Config) -> Result<Option<Owner>, Error> {
        // A look first: the memory may be sealed by now, and even a compare-and-exchange that fails is a write.
        if self.decision() != Decision::Uninitialized {
            return Err(Error::AlreadyInitialized);
        }
        self.decision
            .compare_exchange(
                Decision::Uninitialized.encode(),
                Decision::Initializing.encode(),
                Relaxed,
                Relaxed,
            )
            .map_err(|_| Error::AlreadyInitialized)?;
        self.length.store(config.length, Relaxed);
        self.feature_size.store(config.feature_size(), Relaxed);
        self.wants_slice.store(config.slice_extension, Relaxed);
        self.asks_for_slice
            .store(config.registers_with_slice(), Relaxed);
        self.kernel_lays_out
            .store(config.kernel_lays_out(), Relaxed);
        // Also where nobody is to be registered: a stack that the libc's area lies in is not to be unmapped either.
        let libc = match config.claim {
            Claim::Runtime => None,
            _ => self.adopt_libc(&config),
        };
        let decision = match config.claim {
            Claim::Disabled => Decision::Nobody(Reason::Disabled),
            Claim::Libc => libc.unwrap_or(Decision::LibcUnseen),
            Claim::Detect | Claim::Runtime => libc.unwrap_or(Decision::Undecided),
        };
        // Release: who sees the decision sees the fields above.
        self.decision.store(decision.encode(), Release);
        Ok(self.owner())
    }

    fn adopt_libc(&self, config: &Config) -> Option<Decision> {
        let trio: Trio = self.kernel.libc_trio().filter(|trio| trio.size != 0)?;
        self.libc_offset.store(trio.offset, Relaxed);
        self.feature_size
            .store(trio.usable_size(config.feature_size), Relaxed);
        Some(Decision::Libc)
    }

    /// Who owns rseq; `None` until it is decided. A thread that is refused decides nothing for the others, unless the
    /// kernel has no rseq at all. Callable from anywhere, a signal handler included.
    pub fn owner(&self) -> Option<Owner> {
        match self.decision() {
            Decision::Uninitialized | Decision::Initializing | Decision::Undecided => None,
            Decision::Nobody(_) => Some(Owner::Nobody),
            Decision::Libc | Decision::LibcUnseen => Some(Owner::Libc),
            Decision::Runtime { .. } => Some(Owner::Runtime),
        }
    }

    /// Bytes that this runtime's registrations state; 0 unless it is the owner.
    pub fn length(&self) -> u32 {
        match self.decision() {
            Decision::Runtime { length } => u32::from(length),
            _ => 0,
        }
    }

    /// Bytes of the owner's area that hold valid fields; 0 while nothing is registered or can be seen.
    pub fn feature_size(&self) -> u32 {
        match self.decision() {
            Decision::Runtime { .. } | Decision::Libc => self.fields(),
            _ => 0,
        }
    }

    /// Why nobody, or nobody we can see, registers; `None` if the owner is known and visible.
    pub fn reason(&self) -> Option<Reason> {
        match self.decision() {
            Decision::Nobody(reason) => Some(reason),
            Decision::LibcUnseen => Some(Reason::Taken),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn decision(&self) -> Decision {
        Decision::decode(self.decision.load(Acquire))
    }

    /// Settles an open question; whoever comes first decides for everyone. Returns what then holds.
    pub(crate) fn settle(&self, decision: Decision) -> Decision {
        let open = Decision::Undecided.encode();
        // A look first, as in init: behind the decision the memory may be sealed.
        let seen = self.decision();
        if seen != Decision::Undecided {
            return seen;
        }
        match self
            .decision
            .compare_exchange(open, decision.encode(), Release, Acquire)
        {
            Ok(_) => decision,
            Err(winner) => Decision::decode(winner),
        }
    }

    /// The length to try while nothing is decided.
    pub(crate) fn wished_length(&self) -> u32 {
        self.length.load(Relaxed)
    }

    /// The wish of the configuration, whatever came of it.
    pub(crate) fn wants_slice(&self) -> bool {
        self.wants_slice.load(Relaxed)
    }

    pub(crate) fn asks_for_slice(&self) -> bool {
        self.asks_for_slice.load(Relaxed)
    }

    pub(crate) fn kernel_lays_out(&self) -> bool {
        self.kernel_lays_out.load(Relaxed)
    }

    /// Before the decision only: this kernel has no slice extension.
    pub(crate) fn forget_slice(&self) {
        self.asks_for_slice.store(false, Relaxed);
    }

    /// The usable fields for the length in force: a fall-back to 32 hides the later ones.
    pub(crate) fn fields(&self) -> u32 {
        // The decision first: its Acquire is what makes the size the one that belongs to it.
        let decision = self.decision();
        let size = self.feature_size.load(Relaxed);
        match decision {
            Decision::Runtime { length } => size.min(u32::from(length)),
            _ => size,
        }
    }

    pub(crate) fn libc_offset(&self) -> isize {
        self.libc_offset.load(Relaxed)
    }
}
