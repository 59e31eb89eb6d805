//! The process: who owns rseq, decided once.

pub(crate) mod config;
pub(crate) mod decision;
pub(crate) mod state;

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicIsize, AtomicU8, AtomicU32};

use crate::process::config::{Claim, Config};
use crate::process::decision::Decision;
use crate::process::state::{Owner, Reason};
use crate::sys::abi::LEGACY_FEATURE_SIZE;
use crate::sys::error::Error;
use crate::sys::kernel::{Kernel, Linux};

/// One process's view of rseq: a `static` that the runtime places.
///
/// It is written by [`Self::init`], by the registration that decides ([`Self::owner`] answers from then on), by
/// [`Self::allow_sections`] and [`Self::probe_sections`], and never again: a libc may make its memory read-only after that.
#[derive(Debug)]
pub struct Process<K: Kernel = Linux> {
    pub(crate) kernel: K,
    decision: AtomicU32,
    feature_size: AtomicU32,
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
            decision: AtomicU32::new(Decision::UNINITIALIZED.word()),
            feature_size: AtomicU32::new(LEGACY_FEATURE_SIZE),
            libc_offset: AtomicIsize::new(0),
            sections: AtomicU8::new(0),
        }
    }

    /// Takes the configuration; once, before any hook, best before a second thread. No system call.
    ///
    /// In this order: what the runtime states ([`Claim`]); the libc's `__rseq_*` (size not 0); else the owner stays
    /// undecided until the first create hook, whose registration is itself the probe: nothing but a valid registration
    /// tells whether the kernel accepts one.
    ///
    /// Returns the owner if it is known already.
    ///
    /// # Errors
    /// `AlreadyInitialized`; nothing is changed.
    pub fn init(&self, config: Config) -> Result<Option<Owner>, Error> {
        // A look first: the memory may be sealed by now, and even a compare-and-exchange that fails is a write.
        let (none, begun) = (Decision::UNINITIALIZED, Decision::INITIALIZING);
        if self.decision() != none || !self.decide(none, begun) {
            return Err(Error::AlreadyInitialized);
        }
        let undecided = Decision::undecided(&config);
        self.feature_size.store(config.feature_size, Relaxed);
        // Also where nobody is to be registered: a stack that the libc's area lies in is not to be unmapped either.
        let is_libc_seen = config.claim != Claim::Runtime && self.adopt_libc(&config);
        let decision = match config.claim {
            Claim::Disabled => undecided.nobody(Reason::Disabled),
            Claim::Detect | Claim::Runtime if !is_libc_seen => undecided,
            _ => undecided.libc(is_libc_seen),
        };
        // Release: who sees the decision sees the fields above.
        self.decision.store(decision.word(), Release);
        Ok(decision.owner())
    }

    fn adopt_libc(&self, config: &Config) -> bool {
        let Some(trio) = self.kernel.libc_trio().filter(|trio| trio.size != 0) else {
            return false;
        };
        self.libc_offset.store(trio.offset, Relaxed);
        self.feature_size
            .store(trio.usable_size(config.feature_size), Relaxed);
        true
    }

    /// Who owns rseq; `None` until it is decided. A thread that is refused decides nothing for the others, unless the
    /// kernel has no rseq at all. Callable from anywhere, a signal handler included.
    pub fn owner(&self) -> Option<Owner> {
        self.decision().owner()
    }

    /// Bytes that this runtime's registrations state; 0 unless it is the owner.
    pub fn length(&self) -> u32 {
        let decision = self.decision();
        match decision.owner() {
            Some(Owner::Runtime) => decision.length(),
            _ => 0,
        }
    }

    /// Bytes of the owner's area that hold valid fields; 0 while nothing is registered or can be seen.
    pub fn feature_size(&self) -> u32 {
        match self.owner() {
            Some(Owner::Runtime | Owner::Libc) if self.reason().is_none() => self.fields(),
            _ => 0,
        }
    }

    /// Why nobody, or nobody we can see, registers; `None` if the owner is known and visible.
    pub fn reason(&self) -> Option<Reason> {
        self.decision().reason()
    }

    #[inline]
    pub(crate) fn decision(&self) -> Decision {
        Decision::from_word(self.decision.load(Acquire))
    }

    /// Settles an open question; whoever comes first decides for everyone. Returns what then holds.
    #[cold]
    #[inline(never)]
    pub(crate) fn settle(&self, decision: Decision) -> Decision {
        // A look first, as in init: behind the decision the memory may be sealed.
        let seen = self.decision();
        if seen.is_open() {
            self.decide(seen, decision);
        }
        self.decision()
    }

    fn decide(&self, from: Decision, to: Decision) -> bool {
        self.decision
            .compare_exchange(from.word(), to.word(), Release, Relaxed)
            .is_ok()
    }

    /// The usable fields for the length in force: a fall-back to 32 hides the later ones.
    pub(crate) fn fields(&self) -> u32 {
        // The decision first: its Acquire is what makes the size the one that belongs to it.
        let decision = self.decision();
        let size = self.feature_size.load(Relaxed);
        match decision.owner() {
            Some(Owner::Runtime) => size.min(decision.length()),
            _ => size,
        }
    }

    pub(crate) fn libc_offset(&self) -> isize {
        self.libc_offset.load(Relaxed)
    }
}
