//! Filters, tools and foreign owners between the program and the kernel, or earlier than the program.

use rseq_rt::Errno;

/// The calls of the seam that a filter can refuse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    Rseq,
    Mask,
    Getcpu,
    Futex,
    SliceYield,
    SlicePrctl,
    Probe,
    Uname,
}

pub const CALLS: usize = 8;

/// From the `from`-th call of this kind on (the first is 1), the answer is always this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filter {
    pub call: Call,
    pub from: u32,
    pub answer: Answer,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    Refuse(Errno),
    /// Success without effect.
    Pretend,
}

/// The owner that registered before this runtime, and whether it is visible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Foreign {
    None,
    /// Every thread, with the `__rseq_*` trio exported.
    Visible,
    /// Every thread, without symbols.
    Hidden,
    /// Only the second thread, without symbols.
    HiddenOnSecond,
    /// A libc with the trio that registered no thread: size 0.
    Off,
    /// A libc with the trio whose registration failed on the second thread.
    VisibleNotOnSecond,
}

/// The memory of an area, as the kernel finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    Writable,
    ReadOnly,
    Unmapped,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answers {
    pub filter: Option<Filter>,
    /// rr, gVisor: no length but 32, whatever auxv says.
    pub only_32: bool,
    pub foreign: Foreign,
    /// The length that a foreign owner registers, and its `__rseq_size`.
    pub foreign_length: u32,
    pub memory: Memory,
    /// The release returned by uname(2).
    pub release: [u8; 65],
}

pub const PLAIN: Answers = Answers {
    filter: None,
    only_32: false,
    foreign: Foreign::None,
    foreign_length: 32,
    memory: Memory::Writable,
    release: [0; 65],
};

impl Answers {
    pub fn refusing(call: Call, from: u32, errno: Errno) -> Self {
        Self {
            filter: Some(Filter {
                call,
                from,
                answer: Answer::Refuse(errno),
            }),
            ..PLAIN
        }
    }

    pub fn pretending(from: u32) -> Self {
        Self {
            filter: Some(Filter {
                call: Call::Rseq,
                from,
                answer: Answer::Pretend,
            }),
            ..PLAIN
        }
    }

    pub fn with_foreign(foreign: Foreign) -> Self {
        Self { foreign, ..PLAIN }
    }
}
