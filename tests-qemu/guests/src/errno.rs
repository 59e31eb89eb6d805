//! What the kernel answers when it refuses.

use core::fmt;

use crate::show::{Show, Text};
pub use linux_raw_sys::errno;

/// An errno, positive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub u32);

impl Errno {
    /// No such call: an old kernel, qemu-user, or a filter that pretends so.
    pub const NOSYS: Self = Self(errno::ENOSYS);
    /// Not allowed, or filtered.
    pub const PERM: Self = Self(errno::EPERM);
    /// An argument the kernel does not take.
    pub const INVAL: Self = Self(errno::EINVAL);
    /// Already so.
    pub const BUSY: Self = Self(errno::EBUSY);
    /// An address that is not the caller's.
    pub const FAULT: Self = Self(errno::EFAULT);
    /// Filtered.
    pub const ACCES: Self = Self(errno::EACCES);
    /// Try again; also: the time is over.
    pub const AGAIN: Self = Self(errno::EAGAIN);
    /// A signal came first.
    pub const INTR: Self = Self(errno::EINTR);
    /// No such thread.
    pub const SRCH: Self = Self(errno::ESRCH);
    /// No child to wait for.
    pub const CHILD: Self = Self(errno::ECHILD);
    /// No such file.
    pub const NOENT: Self = Self(errno::ENOENT);
    /// The file is there already.
    pub const EXIST: Self = Self(errno::EEXIST);
    /// No memory, or no room for one more mapping.
    pub const NOMEM: Self = Self(errno::ENOMEM);

    /// The name in the manual pages, of those that tests meet.
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

impl Show for Errno {
    fn show(&self, to: &mut Text) {
        match self.name() {
            Some(name) => to.push(name.as_bytes()),
            None => {
                to.push(b"errno ");
                self.0.show(to);
            }
        }
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
