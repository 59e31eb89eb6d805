//! Errors, as plain values.

use core::fmt;
use core::num::NonZeroU16;

use linux_raw_sys::errno;

/// A raw `errno` of the kernel, 1 to 4095.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Errno(NonZeroU16);

impl Errno {
    /// No such system call, or no `CONFIG_RSEQ`.
    pub const NOSYS: Self = Self::known(errno::ENOSYS);
    /// Refused by a filter, or a signature mismatch.
    pub const PERM: Self = Self::known(errno::EPERM);
    /// Refused by a filter.
    pub const ACCES: Self = Self::known(errno::EACCES);
    /// Invalid argument; for a valid registration: another area is registered.
    pub const INVAL: Self = Self::known(errno::EINVAL);
    /// Bad address.
    pub const FAULT: Self = Self::known(errno::EFAULT);
    /// This very area is registered already.
    pub const BUSY: Self = Self::known(errno::EBUSY);
    /// No such entry.
    pub const NOENT: Self = Self::known(errno::ENOENT);
    /// The futex word did not hold the expected value.
    pub const AGAIN: Self = Self::known(errno::EAGAIN);
    /// Interrupted by a signal.
    pub const INTR: Self = Self::known(errno::EINTR);

    const fn known(code: u32) -> Self {
        Self(NonZeroU16::new(code as u16).unwrap())
    }

    /// An errno from its number; 0 or a number above 4095 is not one.
    pub const fn from_raw(raw: u16) -> Option<Self> {
        match NonZeroU16::new(raw) {
            Some(errno) if raw <= 4095 => Some(Self(errno)),
            _ => None,
        }
    }

    /// The number.
    pub const fn raw(self) -> u16 {
        self.0.get()
    }

    /// Splits the return value of a system call: -4095 to -1 is an errno.
    pub const fn check(returned: usize) -> Result<usize, Self> {
        if returned > usize::MAX - 4095
            && let Some(errno) = NonZeroU16::new(returned.wrapping_neg() as u16)
        {
            return Err(Self(errno));
        }
        Ok(returned)
    }
}

/// Why a call changed nothing.
///
/// A thread that the kernel refuses to register is *not* an error: it runs on
/// and its [`State`](crate::State) says why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// [`Process::init`](crate::Process::init) has not been called.
    NotInitialized,
    /// [`Process::init`](crate::Process::init) was called before.
    AlreadyInitialized,
    /// The create hook ran on this area before.
    AlreadyCreated,
    /// The create hook never ran on this area.
    NotCreated,
    /// The thread has begun to exit; nothing registers it again.
    Exiting,
    /// The area is lent to a vfork child.
    Lent,
    /// The address of the area is null.
    NullArea,
    /// The area is not aligned to [`Area::ALIGN`](crate::Area::ALIGN).
    MisalignedArea,
    /// The memory is smaller than [`Area::SIZE`](crate::Area::SIZE).
    AreaTooSmall,
    /// The kernel cannot write to the area: unmapped or read-only.
    UnwritableArea(Errno),
    /// The at-exit stack is full.
    CallbacksFull,
    /// A signal handler reached the at-exit stack in the middle of a change.
    Busy,
    /// The signal mask could not be changed (a filter refuses it).
    NotMasked(Errno),
    /// Unregistration was refused: the kernel still writes to the area. `NOSYS` also stands for an
    /// answer of 0 after which the kernel had not let go.
    StillRegistered(Errno),
    /// Another area of this thread is registered, somebody else's, and may lie in the memory that was to go.
    Taken,
    /// The futex wait was refused.
    Futex(Errno),
    /// Neither rseq nor a system call can tell.
    Unavailable(Errno),
}

impl Error {
    /// The errno that a C interface would return, positive.
    ///
    /// Where the kernel gave one, it is that one.
    pub const fn raw_os_error(self) -> u16 {
        match self {
            Self::NotInitialized | Self::NotCreated => errno::EINVAL as u16,
            Self::AlreadyInitialized | Self::AlreadyCreated => errno::EALREADY as u16,
            Self::Exiting => errno::ESRCH as u16,
            Self::Lent | Self::Busy | Self::Taken => errno::EBUSY as u16,
            Self::NullArea => errno::EFAULT as u16,
            Self::MisalignedArea | Self::AreaTooSmall => errno::EINVAL as u16,
            Self::CallbacksFull => errno::ENOMEM as u16,
            Self::UnwritableArea(e)
            | Self::NotMasked(e)
            | Self::StillRegistered(e)
            | Self::Futex(e)
            | Self::Unavailable(e) => e.raw(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotInitialized => "the process was not initialized",
            Self::AlreadyInitialized => "the process was initialized before",
            Self::AlreadyCreated => "the create hook ran on this area before",
            Self::NotCreated => "the create hook never ran on this area",
            Self::Exiting => "the thread is exiting",
            Self::Lent => "the area is lent to a vfork child",
            Self::NullArea => "the area is null",
            Self::MisalignedArea => "the area is misaligned",
            Self::AreaTooSmall => "the area is too small",
            Self::UnwritableArea(_) => "the area is not writable memory",
            Self::CallbacksFull => "the at-exit stack is full",
            Self::Busy => "the at-exit stack is being changed",
            Self::NotMasked(_) => "the signal mask could not be changed",
            Self::StillRegistered(_) => "unregistration was refused",
            Self::Taken => "another area of the thread is registered",
            Self::Futex(_) => "the futex wait was refused",
            Self::Unavailable(_) => "neither rseq nor a system call can tell",
        })
    }
}

impl core::error::Error for Error {}
