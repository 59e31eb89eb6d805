//! Which system call a filter answers, how, and from when on.

use linux_raw_sys::general::{
    __NR_exit, __NR_futex, __NR_getcpu, __NR_membarrier, __NR_munmap, __NR_rseq,
    __NR_rt_sigprocmask, __NR_set_tid_address, __NR_uname,
};
use rseq_rt::abi::NR_RSEQ_SLICE_YIELD;

use crate::errno::Errno;
use crate::seccomp::Answer;
use crate::show::{Show, Text};

/// What the crate calls.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// rseq(2).
    Rseq,
    /// rt_sigprocmask(2).
    Mask,
    /// getcpu(2).
    GetCpu,
    /// futex(2).
    Futex,
    /// set_tid_address(2).
    SetTidAddress,
    /// munmap(2).
    Unmap,
    /// uname(2).
    Uname,
    /// rseq_slice_yield(2).
    SliceYield,
    /// membarrier(2).
    Membarrier,
    /// exit(2).
    Exit,
}

impl Call {
    /// As the kernel knows it.
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

/// Which call is answered how, and from when on.
#[derive(Clone, Copy)]
pub struct Plan {
    /// The call.
    pub call: Call,
    /// The answer.
    pub answer: Answer,
    /// Not from the start, but once the first threads are there.
    pub is_late: bool,
}

impl Show for Plan {
    fn show(&self, to: &mut Text) {
        to.and(self.call.name());
        match self.answer {
            Answer::Errno(Errno(0)) => to.and(" pretended"),
            Answer::Errno(errno) => to.and(" refused by ").and(&errno),
            Answer::Kill => to.and(" kills the process"),
            Answer::KillThread => to.and(" kills the thread"),
            Answer::Trap => to.and(" trapped"),
        };
        to.and(if self.is_late {
            ", late"
        } else {
            ", from the start"
        });
    }
}
