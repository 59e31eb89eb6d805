//! The report as plain values.

use crate::percpu::{SectionSupport, VouchedBy};
use crate::process::Process;
use crate::process::state::{Owner, Reason, State};
use crate::sys::abi::{FEATURE_SIZE_SLICE_CTRL, LEGACY_LENGTH};
use crate::sys::error::Errno;
use crate::sys::kernel::Kernel;
use crate::thread::area::Area;

/// How the kernel treats a registration, which depends on its length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behaviour {
    /// Length 32, and every length before Linux 7.0: the ids are written at every switch, and stray stores to them
    /// repaired.
    Legacy,
    /// A longer one, on a kernel that states more than 32 bytes of fields: from Linux 7.0.10 on the ids are written on
    /// change only, and a store to them kills.
    Linux7,
}

/// Why the time-slice extension of a thread is on or off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SliceAnswer {
    /// On.
    On,
    /// [`Config::slice_extension`](crate::Config::slice_extension) was not asked for.
    NotAsked,
    /// The thread is not registered by this runtime, is lent, or exits.
    NotRegistered,
    /// The registration is too short for the field: the kernel states fewer bytes, or the legacy length was asked for.
    TooShort,
    /// The kernel refused it, or took the request and enabled nothing.
    Refused,
}

/// The answer of [`Process::report`]: plain values, and by [`Display`](core::fmt::Display) or [`Self::write_to`] five lines of text,
/// in which each "no" has its remedy behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Whether [`Process::init`] has been called.
    pub is_initialized: bool,
    /// [`Process::owner`].
    pub owner: Option<Owner>,
    /// [`Process::reason`].
    pub reason: Option<Reason>,
    /// [`Process::length`].
    pub length: u32,
    /// [`Process::feature_size`].
    pub feature_size: u32,
    /// Of the owner's registrations; `None` while there is none, or it cannot be seen.
    pub behaviour: Option<Behaviour>,
    /// [`Area::state`]; the reason is in it.
    pub state: State,
    /// [`Area::errno`].
    pub errno: Option<Errno>,
    /// [`Process::section_support`].
    pub sections: SectionSupport,
    /// [`Process::vouched_by`].
    pub vouched_by: VouchedBy,
    /// The time-slice extension.
    pub slice: SliceAnswer,
}

impl<K: Kernel> Process<K> {
    /// Who owns rseq here, what became of one thread, and why. No system call; async-signal-safe; of any thread's area.
    ///
    /// The fence is not in it: [`Fence`](crate::structures::Fence) is a value of its holder's, who asks
    /// [`has_membarrier`](crate::structures::Fence::has_membarrier), and of any other the kernel alone can tell.
    #[cold]
    pub fn report(&self, area: &Area) -> Report {
        let (length, feature_size) = (self.length(), self.feature_size());
        // A libc states its feature size alone, and registers at least so much.
        let behaviour = match length.max(feature_size) {
            0 => None,
            1..=LEGACY_LENGTH => Some(Behaviour::Legacy),
            _ if self.decision().kernel_lays_out() => Some(Behaviour::Linux7),
            _ => Some(Behaviour::Legacy),
        };
        let slice = if area.has_slice_extension() {
            SliceAnswer::On
        } else if !self.decision().wants_slice() {
            SliceAnswer::NotAsked
        } else if !area.is_registered() {
            SliceAnswer::NotRegistered
        } else if length < FEATURE_SIZE_SLICE_CTRL {
            SliceAnswer::TooShort
        } else {
            SliceAnswer::Refused
        };
        Report {
            is_initialized: self.ensure_initialized().is_ok(),
            owner: self.owner(),
            reason: self.reason(),
            length,
            feature_size,
            behaviour,
            state: area.state(),
            errno: area.errno(),
            sections: self.section_support(),
            vouched_by: self.vouched_by(),
            slice,
        }
    }
}
