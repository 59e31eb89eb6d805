//! One case of the walk: a hook, the state before it, and what a handler does in the middle.

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name {
            $(#[doc = $text] $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// In words.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            fn of(number: u8) -> Option<Self> {
                Self::ALL.get(usize::from(number)).copied()
            }
        }
    };
}

numbered! {
    /// What is walked through.
    Hook {
        Create "create",
        CreateMasked "create, masked",
        Ensure "ensure",
        Lend "lend",
        EndLoan "the end of a loan",
        Keep "exit, keep",
        KeepMasked "exit, keep, masked",
        Release "exit, release",
        ReleaseMasked "exit, release, masked",
        ScopedBegin "the begin of a scope",
        ScopedEnd "the end of a scope",
        Recycle "recycle",
        AtExit "the at-exit callbacks",
        BrokenLend "a loan of a load and a store",
    }
}

numbered! {
    /// What is true of the thread before.
    Before {
        Zeroed "zeroed memory, the first of the process",
        New "a new area",
        Lazy "registered lazily",
        Created "created",
        Taken "taken, not yet known",
        KnownTaken "taken",
        LentNew "a new area, lent",
        Lent "registered, lent",
        Exiting "exiting",
        Disabled "a new area, where the process does without",
    }
}

numbered! {
    /// What the handler does.
    Act {
        Nothing "nothing",
        Ensure "ensure_registered",
        Read "a read",
        Push "a push of a callback",
        Lend "a loan and its end",
        Fork "fork",
        Vfork "vfork, under a loan",
        Exec "vfork and exec, under a loan",
    }
}

/// Which kernel the hooks see.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Seam {
    /// The real one.
    Linux,
    /// The real one, but a filter refuses rt_sigprocmask(2).
    NoMask,
}

/// One case, and how it is made.
#[derive(Clone, Copy)]
pub struct Case {
    /// What is walked through.
    pub hook: Hook,
    /// What is true before.
    pub before: Before,
    /// What the handler does.
    pub act: Act,
    /// Which kernel the hook sees.
    pub seam: Seam,
    /// A stop behind the hook as well.
    pub traced: bool,
    /// The signal is SIGSYS, which the hooks leave open.
    pub is_sigsys: bool,
    /// Afterwards the thread goes to each CPU, and looks.
    pub is_moved: bool,
}

const END: u32 = u32::MAX;

impl Case {
    /// As one word.
    pub fn encode(this: Option<Self>) -> u32 {
        let Some(case) = this else { return END };
        let flags = u32::from(case.seam == Seam::NoMask)
            | u32::from(case.traced) << 1
            | u32::from(case.is_sigsys) << 2
            | u32::from(case.is_moved) << 3;
        u32::from_le_bytes([case.hook as u8, case.before as u8, case.act as u8, 0]) | flags << 24
    }

    /// The other way; `None` ends the walk.
    pub fn decode(word: u32) -> Option<Self> {
        let [hook, before, act, flags] = word.to_le_bytes();
        Some(Self {
            hook: Hook::of(hook)?,
            before: Before::of(before)?,
            act: Act::of(act)?,
            seam: if flags & 1 == 0 {
                Seam::Linux
            } else {
                Seam::NoMask
            },
            traced: flags & 2 != 0,
            is_sigsys: flags & 4 != 0,
            is_moved: flags & 8 != 0,
        })
    }
}
