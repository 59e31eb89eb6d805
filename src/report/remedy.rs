//! The remedy for each "no" of a report.

use crate::percpu::SectionSupport;
use crate::process::state::{Owner, Reason, State};
use crate::report::values::{Report, SliceAnswer};

/// A remedy where rseq, its sections or its slice extension are not in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum Remedy {
    /// Nothing: the libc registers the thread, or it exits, or is lent.
    NothingToDo = 1,
    /// [`Process::init`](crate::Process::init).
    Initialize = 2,
    /// The create hook, on the thread itself.
    CallCreateHook = 3,
    /// rseq(2) in the list of the filter.
    AllowSyscall = 4,
    /// The same, or another kernel: ENOSYS is either's answer.
    KernelOrFilter = 5,
    /// A search for the code that has registered another area for the thread.
    FindOther = 6,
    /// An area in writable memory.
    WritableArea = 7,
    /// No [`Claim::Disabled`](crate::Claim::Disabled), and whatever switch the embedding libc has for it.
    LiftPolicy = 8,
    /// None that is known here.
    Unknown = 9,
    /// [`Process::allow_sections`](crate::Process::allow_sections).
    AllowSections = 10,
    /// A kernel that is not of those that do not abort sections, or
    /// [`Process::probe_sections`](crate::Process::probe_sections).
    KernelOrProbe = 11,
    /// Another kernel.
    OtherKernel = 12,
    /// [`Config::slice_extension`](crate::Config::slice_extension).
    AskForSlice = 13,
    /// Linux 7.0, and no [`Config::legacy_length`](crate::Config::legacy_length).
    LongerRegistration = 14,
    /// A kernel with `CONFIG_RSEQ_SLICE_EXTENSION`.
    SliceKernel = 15,
    /// A libc that does not register, so that this runtime does.
    LibcOff = 16,
}

/// With the number of rseq(2) of this CPU.
macro_rules! allow {
    ($answer:literal) => {
        if cfg!(target_arch = "x86_64") {
            concat!($answer, ": allow rseq(2), number 334")
        } else {
            concat!($answer, ": allow rseq(2), number 293")
        }
    };
}

const _: () = assert!(
    sc::nr::RSEQ
        == if cfg!(target_arch = "x86_64") {
            334
        } else {
            293
        }
);

impl Remedy {
    /// In a few words, for a person.
    #[cold]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NothingToDo => "nothing to do",
            Self::Initialize => "call init, then the create hook",
            Self::CallCreateHook => "call the create hook",
            Self::AllowSyscall => allow!("refused by a filter"),
            Self::KernelOrFilter => {
                allow!("kernel before 4.18 or without CONFIG_RSEQ, or a filter or an emulator")
            }
            Self::FindOther => "another area of the thread is registered: look at LD_PRELOAD",
            Self::WritableArea => "place the area in writable memory",
            Self::LiftPolicy => "switched off: take that out of the configuration",
            Self::Unknown => "unknown to this library: look the errno up in rseq(2)",
            Self::AllowSections => "call allow_sections",
            Self::KernelOrProbe => "Linux 7.0.14 or later, or call probe_sections",
            Self::OtherKernel => "another kernel",
            Self::AskForSlice => "ask for it at init",
            Self::LongerRegistration => "Linux 7.0 or later, without the legacy length",
            Self::SliceKernel => "a kernel with CONFIG_RSEQ_SLICE_EXTENSION",
            Self::LibcOff => "the libc owns: GLIBC_TUNABLES=glibc.pthread.rseq=0",
        }
    }
}

impl Reason {
    /// The remedy for it.
    pub const fn remedy(self) -> Remedy {
        match self {
            Self::NoSyscall => Remedy::KernelOrFilter,
            Self::Filtered | Self::Pretended => Remedy::AllowSyscall,
            Self::Taken => Remedy::FindOther,
            Self::BadMemory => Remedy::WritableArea,
            Self::Disabled => Remedy::LiftPolicy,
            Self::Refused => Remedy::Unknown,
        }
    }
}

impl Report {
    /// Where the thread is not registered, by nobody; `None` where it is.
    #[cold]
    pub const fn thread_remedy(&self) -> Option<Remedy> {
        Some(match (self.state, self.owner, self.reason) {
            (State::Registered(_), ..) => return None,
            (State::Unavailable(reason), ..) => reason.remedy(),
            (State::Exiting | State::Lent, ..) => Remedy::NothingToDo,
            (State::Unregistered, Some(Owner::Libc), _) => Remedy::NothingToDo,
            (State::Unregistered, Some(Owner::Nobody), Some(reason)) => reason.remedy(),
            (State::Unregistered, ..) if !self.is_initialized => Remedy::Initialize,
            (State::Unregistered, ..) => Remedy::CallCreateHook,
        })
    }

    /// Where sections are off. A thread runs none as long as it is not registered, either.
    #[cold]
    pub const fn section_remedy(&self) -> Option<Remedy> {
        Some(match self.sections {
            SectionSupport::Allowed => return None,
            SectionSupport::NotAsked => Remedy::AllowSections,
            SectionSupport::KnownBad | SectionSupport::Unknown => Remedy::KernelOrProbe,
            SectionSupport::NotAborted => Remedy::OtherKernel,
        })
    }

    /// Where the slice extension is off.
    #[cold]
    pub const fn slice_remedy(&self) -> Option<Remedy> {
        Some(match (self.slice, self.owner) {
            (SliceAnswer::On, _) => return None,
            (_, Some(Owner::Libc)) => Remedy::LibcOff,
            (SliceAnswer::NotAsked, _) => Remedy::AskForSlice,
            (SliceAnswer::NotRegistered, _) => return self.thread_remedy(),
            (SliceAnswer::TooShort, _) => Remedy::LongerRegistration,
            (SliceAnswer::Refused, _) => Remedy::SliceKernel,
        })
    }
}
