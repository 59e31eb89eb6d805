//! The two plain values: who owns rseq in the process, and what is true of one thread.

use crate::sys::error::Errno;

/// The outcome of a registration, in the word of a thread and in that of the process: this runtime has registered it.
pub(crate) const REGISTERED: u32 = 1;
/// The libc has.
pub(crate) const LIBC: u32 = 2;
/// Nobody has, for the [`Reason`] in the bits below.
pub(crate) const UNAVAILABLE: u32 = 0x80;

/// Who registers rseq in this process: a value, never a count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// Nobody: the kernel cannot, or the policy says so.
    Nobody,
    /// The libc, or other code outside this runtime.
    Libc,
    /// This runtime.
    Runtime,
}

/// Why a thread runs without rseq.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum Reason {
    /// ENOSYS: before Linux 4.18, no `CONFIG_RSEQ`, or an emulator without it.
    NoSyscall = 1,
    /// EPERM or EACCES: a filter refuses rseq(2).
    Filtered = 2,
    /// EINVAL to a valid request: another area of this thread is registered, somebody else's. Where that lies is not
    /// known, so that this thread's memory is never released.
    Taken = 3,
    /// EFAULT: the area is not in writable user memory.
    BadMemory = 4,
    /// rseq(2) said 0 and the kernel wrote no CPU.
    Pretended = 5,
    /// The policy of [`Config`](crate::Config).
    Disabled = 6,
    /// Any other errno, or an EBUSY of a kernel that does not let go of the area either.
    Refused = 7,
}

impl Reason {
    const ALL: [Self; 7] = [
        Self::NoSyscall,
        Self::Filtered,
        Self::Taken,
        Self::BadMemory,
        Self::Pretended,
        Self::Disabled,
        Self::Refused,
    ];

    /// The meaning of an errno as the answer to a valid registration.
    pub(crate) const fn of(errno: Errno) -> Self {
        match errno {
            Errno::NOSYS => Self::NoSyscall,
            Errno::PERM | Errno::ACCES => Self::Filtered,
            Errno::INVAL => Self::Taken,
            Errno::FAULT => Self::BadMemory,
            _ => Self::Refused,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == code)
    }

    /// In one or two words, for a person.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSyscall => "no such syscall",
            Self::Filtered => "filtered",
            Self::Taken => "taken",
            Self::BadMemory => "bad memory",
            Self::Pretended => "pretended",
            Self::Disabled => "disabled",
            Self::Refused => "refused",
        }
    }
}

/// The state of one thread: the meaning of the word in its area.
///
#[doc = include_str!("../../docs/lifecycle.md")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Nobody has tried, or somebody is about to.
    Unregistered,
    /// The kernel writes to an area of this thread, registered by this owner (never `Nobody`).
    Registered(Owner),
    /// The thread runs without rseq.
    Unavailable(Reason),
    /// The exit hook has run; nothing registers this area again until it is recycled.
    Exiting,
    /// A vfork child shares the area, so nothing in it may be trusted. See [`Lent`](crate::Lent).
    Lent,
}
