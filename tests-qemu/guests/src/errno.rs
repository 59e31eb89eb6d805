//! Errors of the kernel.

use core::fmt;

pub use linux_raw_sys::errno;

/// An errno, positive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub u32);

impl Errno {
    pub const NOSYS: Self = Self(errno::ENOSYS);
    pub const PERM: Self = Self(errno::EPERM);
    pub const INVAL: Self = Self(errno::EINVAL);
    pub const BUSY: Self = Self(errno::EBUSY);
    pub const FAULT: Self = Self(errno::EFAULT);
    pub const ACCES: Self = Self(errno::EACCES);
    pub const AGAIN: Self = Self(errno::EAGAIN);
    pub const INTR: Self = Self(errno::EINTR);
    pub const SRCH: Self = Self(errno::ESRCH);
    pub const CHILD: Self = Self(errno::ECHILD);
    pub const NOENT: Self = Self(errno::ENOENT);
    pub const EXIST: Self = Self(errno::EEXIST);
    pub const NOMEM: Self = Self(errno::ENOMEM);

    /// The name in the manual pages, for errnos that tests meet.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::NOSYS => "ENOSYS",
            Self::PERM => "EPERM",
            Self::INVAL => "EINVAL",
            Self::BUSY => "EBUSY",
            Self::FAULT => "EFAULT",
            Self::ACCES => "EACCES",
            Self::AGAIN => "EAGAIN",
            Self::INTR => "EINTR",
            Self::SRCH => "ESRCH",
            Self::CHILD => "ECHILD",
            Self::NOENT => "ENOENT",
            Self::EXIST => "EEXIST",
            Self::NOMEM => "ENOMEM",
            _ => return None,
        })
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => to.write_str(name),
            None => write!(to, "errno {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, to)
    }
}
