//! The system call that a filter answers, how, and from when on.

use core::fmt;

use linux_raw_sys::general::{
    __NR_exit, __NR_futex, __NR_getcpu, __NR_membarrier, __NR_munmap, __NR_rseq,
    __NR_rt_sigprocmask, __NR_set_tid_address, __NR_uname,
};
use rseq_rt::abi::NR_RSEQ_SLICE_YIELD;

use crate::errno::Errno;
use crate::seccomp::Answer;

/// A system call of the crate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Rseq,
    Mask,
    GetCpu,
    Futex,
    SetTidAddress,
    Unmap,
    Uname,
    SliceYield,
    Membarrier,
    Exit,
}

impl Call {
    pub const fn number(self) -> u32 {
        match self {
            Self::Rseq => __NR_rseq,
            Self::Mask => __NR_rt_sigprocmask,
            Self::GetCpu => __NR_getcpu,
            Self::Futex => __NR_futex,
            Self::SetTidAddress => __NR_set_tid_address,
            Self::Unmap => __NR_munmap,
            Self::Uname => __NR_uname,
            Self::SliceYield => NR_RSEQ_SLICE_YIELD as u32,
            Self::Membarrier => __NR_membarrier,
            Self::Exit => __NR_exit,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Rseq => "rseq",
            Self::Mask => "rt_sigprocmask",
            Self::GetCpu => "getcpu",
            Self::Futex => "futex",
            Self::SetTidAddress => "set_tid_address",
            Self::Unmap => "munmap",
            Self::Uname => "uname",
            Self::SliceYield => "rseq_slice_yield",
            Self::Membarrier => "membarrier",
            Self::Exit => "exit",
        }
    }
}

/// A filter: the call, the answer, and when it is installed.
#[derive(Clone, Copy)]
pub struct Plan {
    pub call: Call,
    pub answer: Answer,
    /// Installed not at the start, but once the first threads exist.
    pub is_late: bool,
}

impl Plan {
    /// If it kills threads, the main thread has no such filter.
    pub const fn kills_thread(&self) -> bool {
        matches!(self.answer, Answer::KillThread)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let call = self.call.name();
        match self.answer {
            Answer::Errno(Errno(0)) => write!(to, "{call} pretended"),
            Answer::Errno(errno) => write!(to, "{call} refused by {errno}"),
            Answer::Kill => write!(to, "{call} kills the process"),
            Answer::KillThread => write!(to, "{call} kills the thread"),
            Answer::Trap => write!(to, "{call} trapped"),
        }?;
        to.write_str(if self.is_late {
            ", late"
        } else {
            ", from the start"
        })
    }
}
