//! What stands between the program and the kernel, or was there before it: filters, tools, a foreign owner.

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
    /// "Success", and nothing done.
    Pretend,
}

/// Who registered before this runtime came, and does it say so?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Foreign {
    None,
    /// Every thread, with the `__rseq_*` trio exported.
    Visible,
    /// Every thread, with no symbol.
    Hidden,
    /// The second thread only, with no symbol.
    HiddenOnSecond,
    /// A libc with the trio that registered nobody: size 0.
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
    /// What a foreign owner registers, and its `__rseq_size`.
    pub foreign_length: u32,
    pub memory: Memory,
    /// What uname(2) states.
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
