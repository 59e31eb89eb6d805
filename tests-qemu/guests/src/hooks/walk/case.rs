//! One case of the walk: a hook, the state before it, and the action of a handler in the middle.

/// The code under the walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hook {
    Create,
    CreateMasked,
    Ensure,
    Lend,
    EndLoan,
    Keep,
    KeepMasked,
    Release,
    ReleaseMasked,
    ScopedBegin,
    ScopedEnd,
    Recycle,
    AtExit,
    RequestSlice,
    YieldSlice,
    Sweep,
    /// A loan by a load and a store.
    BrokenLend,
    /// The end of a request by a load and a store.
    BrokenYieldSlice,
    /// A sweep that takes the list after unmapping its entries.
    BrokenSweep,
}

/// The thread's state before the hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Before {
    /// Zeroed memory, the first area of the process.
    Zeroed,
    New,
    Lazy,
    Created,
    /// Another area of the thread is registered, unknown to this library.
    Taken,
    KnownTaken,
    LentNew,
    /// Registered, and lent.
    Lent,
    Exiting,
    /// A new area in a process that has rseq disabled.
    Disabled,
}

impl Before {
    pub const ALL: [Self; 10] = [
        Self::Zeroed,
        Self::New,
        Self::Lazy,
        Self::Created,
        Self::Taken,
        Self::KnownTaken,
        Self::LentNew,
        Self::Lent,
        Self::Exiting,
        Self::Disabled,
    ];
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    Nothing,
    Ensure,
    Read,
    /// Adds a callback.
    Push,
    /// A loan and its end.
    Lend,
    Fork,
    /// vfork, under a loan.
    Vfork,
    /// vfork and exec, under a loan.
    Exec,
    /// A request for a slice and its end.
    Slice,
    /// In place of the kernel: grants the requested slice.
    Grant,
    Sweep,
}

impl Act {
    pub const ALL: [Self; 11] = [
        Self::Nothing,
        Self::Ensure,
        Self::Read,
        Self::Push,
        Self::Lend,
        Self::Fork,
        Self::Vfork,
        Self::Exec,
        Self::Slice,
        Self::Grant,
        Self::Sweep,
    ];
}

/// One case, and its variations.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub hook: Hook,
    pub before: Before,
    pub act: Act,
    /// On a kernel whose filter refuses rt_sigprocmask(2).
    pub refuses_mask: bool,
    /// The signal is SIGSYS, which the hooks leave open.
    pub is_sigsys: bool,
    /// Afterwards the thread visits each CPU, and checks.
    pub is_moved: bool,
    /// The child stops after the hook too.
    pub stops_behind: bool,
}

impl Case {
    /// Whether a foreign owner has registered the thread.
    pub fn is_taken(&self) -> bool {
        matches!(self.before, Before::Taken | Before::KnownTaken)
    }
}
