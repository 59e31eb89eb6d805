//! The two plain values: who owns rseq in the process, and what is true of one thread.

use crate::error::Errno;

/// Who registers rseq in this process: a value, never a count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// Nobody: the kernel cannot, a filter refuses, or the policy says so.
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
    /// EINVAL to a valid request: another area of this thread is registered.
    Taken = 3,
    /// EFAULT: the area is not in writable user memory.
    BadMemory = 4,
    /// rseq(2) said 0 and the kernel wrote no CPU.
    Pretended = 5,
    /// The policy of [`Config`](crate::Config).
    Disabled = 6,
    /// Any other errno.
    Refused = 7,
    /// The signal mask could not be changed, so registration was not tried.
    NotMasked = 8,
}

impl Reason {
    const ALL: [Self; 8] = [
        Self::NoSyscall,
        Self::Filtered,
        Self::Taken,
        Self::BadMemory,
        Self::Pretended,
        Self::Disabled,
        Self::Refused,
        Self::NotMasked,
    ];

    /// What an errno means as the answer to a registration that is valid in itself.
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
            Self::NotMasked => "not masked",
        }
    }
}

/// What is true of one thread: the meaning of the atomic byte beside its area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Nobody has tried.
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

impl State {
    pub(crate) const UNREGISTERED: u8 = 0;
    pub(crate) const REGISTERED: u8 = 1;
    pub(crate) const FOREIGN: u8 = 2;
    pub(crate) const EXITING: u8 = 3;
    /// A bit over the byte of the state before, which a loan that is never ended must not hide.
    pub(crate) const LENT: u8 = 0x40;
    const UNAVAILABLE: u8 = 0x80;

    pub(crate) const fn encode(self) -> u8 {
        match self {
            Self::Unregistered | Self::Registered(Owner::Nobody) => Self::UNREGISTERED,
            Self::Registered(Owner::Runtime) => Self::REGISTERED,
            Self::Registered(Owner::Libc) => Self::FOREIGN,
            Self::Exiting => Self::EXITING,
            Self::Lent => Self::LENT,
            Self::Unavailable(reason) => Self::UNAVAILABLE | reason as u8,
        }
    }

    /// A byte that no version of this crate writes reads as `Exiting`: touched by nobody.
    pub(crate) fn decode(byte: u8) -> Self {
        match byte {
            Self::UNREGISTERED => Self::Unregistered,
            Self::REGISTERED => Self::Registered(Owner::Runtime),
            Self::FOREIGN => Self::Registered(Owner::Libc),
            byte if byte & Self::LENT != 0 => Self::Lent,
            byte => match Reason::from_code(byte ^ Self::UNAVAILABLE) {
                Some(reason) => Self::Unavailable(reason),
                None => Self::Exiting,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Owner, Reason, State};

    #[test]
    fn every_byte_means_one_thing() {
        for byte in 0..=u8::MAX {
            let expected = match byte {
                0 => State::Unregistered,
                1 => State::Registered(Owner::Runtime),
                2 => State::Registered(Owner::Libc),
                // The bit of the loan, over whatever was there before.
                byte if byte & 0x40 != 0 => State::Lent,
                0x81 => State::Unavailable(Reason::NoSyscall),
                0x82 => State::Unavailable(Reason::Filtered),
                0x83 => State::Unavailable(Reason::Taken),
                0x84 => State::Unavailable(Reason::BadMemory),
                0x85 => State::Unavailable(Reason::Pretended),
                0x86 => State::Unavailable(Reason::Disabled),
                0x87 => State::Unavailable(Reason::Refused),
                0x88 => State::Unavailable(Reason::NotMasked),
                _ => State::Exiting,
            };
            assert_eq!(State::decode(byte), expected, "{byte:#x}");
            // What is written is read back, whoever wrote it.
            assert_eq!(State::decode(expected.encode()), expected, "{byte:#x}");
        }
    }

    #[test]
    fn the_bytes_in_memory_are_fixed() {
        assert_eq!(State::Unregistered.encode(), 0, "fresh memory");
        assert_eq!(State::Registered(Owner::Runtime).encode(), 1);
        assert_eq!(State::Registered(Owner::Libc).encode(), 2);
        assert_eq!(State::Exiting.encode(), 3);
        assert_eq!(State::Lent.encode(), 0x40);
        assert_eq!(State::Unavailable(Reason::NotMasked).encode(), 0x88);
        assert_eq!(
            State::Registered(Owner::Nobody).encode(),
            0,
            "no such registration"
        );
    }
}
