//! The create hook, lazy registration, and the one place that talks rseq(2).

use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::compiler_fence;

use crate::abi::{FLAG_SLICE_EXT_DEFAULT_ON, FLAG_UNREGISTER, LEGACY_LENGTH};
use crate::arch;
use crate::area::Area;
use crate::error::{Errno, Error};
use crate::kernel::Kernel;
use crate::mask::SignalMask;
use crate::process::{Decision, Process};
use crate::state::{Owner, Reason, State};
use crate::thread::Thread;
use crate::word::Outcome;

/// Why the kernel did not register, what it said, and whether it may write to the area all the same.
#[derive(Clone, Copy)]
struct Refusal {
    reason: Reason,
    errno: Option<Errno>,
    written: bool,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            errno: None,
            written: false,
        }
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self {
            errno: Some(errno),
            ..Self::from(Reason::of(errno))
        }
    }
}

impl<K: Kernel> Process<K> {
    /// The create hook: what the runtime calls on each new thread, the main one included, before user code.
    ///
    /// Assumes nothing about the signal mask and leaves it exactly as found; in between, SIGSYS alone is open, for a
    /// filter that traps rseq(2). A thread that the kernel refuses runs on: [`Thread::state`] says why.
    /// System calls: 3 (mask, register, mask); 0 where this runtime does not register, or a
    /// library has registered the thread before.
    ///
    /// # Errors
    /// `NotInitialized`, `AlreadyCreated`, `Exiting`, `Lent`: misuse. Nothing is changed.
    ///
    /// # Safety
    /// 1. `area` belongs to the calling thread and to no other until the area is recycled; and
    ///    where a libc owns rseq, the calling thread is one of its own: a thread of a bare clone(2),
    ///    with no thread pointer of that libc, has no foreign area to be found.
    /// 2. Its memory is not unmapped or reused before [`Reclaimed`](crate::Reclaimed) or
    ///    [`Gone`](crate::Gone) proves that the kernel no longer writes to it.
    /// 3. The returned value stays on this thread.
    pub unsafe fn on_thread_create<'a>(&'a self, area: &'a Area) -> Result<Thread<'a, K>, Error> {
        self.ensure_initialized()?;
        area.word.admit()?;
        self.register_with_signals_blocked(area);
        Ok(Thread::new(self, area))
    }

    /// The create hook for a thread whose signals are all blocked but SIGSYS. System calls: 1 (register), or 0.
    ///
    /// # Errors
    /// As [`Self::on_thread_create`].
    ///
    /// # Safety
    /// 1. to 3. of [`Self::on_thread_create`].
    pub unsafe fn on_thread_create_masked<'a>(
        &'a self,
        area: &'a Area,
        _signals_are_blocked: &SignalMask,
    ) -> Result<Thread<'a, K>, Error> {
        self.ensure_initialized()?;
        area.word.admit()?;
        self.register_thread(area);
        Ok(Thread::new(self, area))
    }

    /// Lazy registration, for a library whose runtime calls no create hook. Async-signal-safe.
    ///
    /// One load once the thread's state is known, whatever it is: a refused
    /// thread is not tried again. Never registers a thread that exits. In a handler that interrupts the registration of
    /// its own thread, and in a vfork child, the answer is the state as it is, and nothing is done.
    ///
    /// # Errors
    /// `NotInitialized`. Nothing is changed.
    ///
    /// # Safety
    /// 1. and 2. of [`Self::on_thread_create`]. A libc may free dynamic TLS while the thread
    ///    still runs, so an area there needs [`Thread::on_exit`] before that.
    #[inline]
    pub unsafe fn ensure_registered(&self, area: &Area) -> Result<State, Error> {
        if area.word.look().is_open() {
            self.ensure_initialized()?;
            self.register_with_signals_blocked(area);
        }
        Ok(area.state())
    }

    fn ensure_initialized(&self) -> Result<(), Error> {
        match self.decision() {
            Decision::Uninitialized | Decision::Initializing => Err(Error::NotInitialized),
            _ => Ok(()),
        }
    }

    /// With handlers kept out, so that the first one finds the thread registered. What keeps them from registering as
    /// well is the claim, so that a filter that refuses the mask is no reason not to register.
    #[cold]
    fn register_with_signals_blocked(&self, area: &Area) {
        let asks_kernel = matches!(
            self.decision(),
            Decision::Undecided | Decision::Runtime { .. }
        );
        if asks_kernel && area.word.look().is_open() {
            self.with_signals_blocked(|| self.register_thread(area));
        } else {
            self.register_thread(area);
        }
    }

    pub(crate) fn with_signals_blocked(&self, work: impl FnOnce()) {
        let mask = SignalMask::block_all_on(&self.kernel);
        work();
        if let Ok(mask) = mask {
            // It was set a moment ago, so it can be set back; and a create hook never fails a thread.
            let _ = mask.restore_on(&self.kernel);
        }
    }

    /// Gives the thread its state, unless it has one or somebody is at it.
    fn register_thread(&self, area: &Area) {
        if area.word.claim() {
            self.resolve(area);
        }
    }

    /// Resolves a claim: nobody else registers or unregisters this area until it is.
    pub(crate) fn resolve(&self, area: &Area) {
        let outcome = match self.owner_of_new_thread(area) {
            Ok(owner) => Outcome {
                result: Ok(owner),
                errno: None,
                written: owner == Owner::Runtime,
                slice: owner == Owner::Runtime && area.slice_is_enabled(),
            },
            Err(refusal) => {
                if refusal.reason != Reason::BadMemory {
                    area.mark_refused();
                }
                Outcome {
                    result: Err(refusal.reason),
                    errno: refusal.errno,
                    written: refusal.written,
                    slice: false,
                }
            }
        };
        area.word.resolve(outcome);
    }

    fn owner_of_new_thread(&self, area: &Area) -> Result<Owner, Refusal> {
        loop {
            match self.decision() {
                Decision::Libc => return Ok(Owner::Libc),
                Decision::LibcUnseen => return Err(Reason::Taken.into()),
                Decision::Nobody(reason) => return Err(reason.into()),
                Decision::Runtime { length } => {
                    self.register(area, u32::from(length))?;
                    return Ok(Owner::Runtime);
                }
                _ => {}
            }
            let length = match self.register_first(area) {
                Ok(length) => length,
                Err(refusal) => {
                    // A kernel without rseq has none for anybody. Every other refusal is about this thread: its
                    // filter, its memory, somebody else's area of it.
                    if refusal.reason == Reason::NoSyscall {
                        self.settle(Decision::Nobody(Reason::NoSyscall));
                    }
                    return Err(refusal);
                }
            };
            let decision = Decision::Runtime {
                length: length as u16,
            };
            // If another thread decided otherwise a moment ago: undo, and do as it says. If that is refused, the kernel
            // goes on writing here, and the state must not deny it.
            if self.settle(decision) == decision || self.unregister(area, length).is_err() {
                return Ok(Owner::Runtime);
            }
        }
    }

    /// The first registration of the process finds the length that works. Returns it.
    fn register_first(&self, area: &Area) -> Result<u32, Refusal> {
        let wished = self.wished_length();
        match self.register(area, wished) {
            // rr and gVisor take only 32 whatever auxv says; EINVAL again means that the thread is taken.
            Err(Refusal {
                reason: Reason::Taken,
                ..
            }) if wished > LEGACY_LENGTH => {
                self.register(area, LEGACY_LENGTH).map(|()| LEGACY_LENGTH)
            }
            outcome => outcome.map(|()| wished),
        }
    }

    fn register(&self, area: &Area, length: u32) -> Result<(), Refusal> {
        if length > LEGACY_LENGTH && self.asks_for_slice() {
            match self.try_register(area, length, FLAG_SLICE_EXT_DEFAULT_ON) {
                // A kernel without the extension does not know the flag; nor does a taken thread tell which it was.
                Err(Refusal {
                    reason: Reason::Taken,
                    ..
                }) => {}
                outcome => return outcome,
            }
            let outcome = self.try_register(area, length, 0);
            if outcome.is_ok() && self.decision() == Decision::Undecided {
                self.forget_slice();
            }
            return outcome;
        }
        self.try_register(area, length, 0)
    }

    fn try_register(&self, area: &Area, length: u32, flags: u32) -> Result<(), Refusal> {
        let mut before = self.prepare(area);
        match self.rseq(area, length, flags) {
            Ok(()) => {}
            // The kernel knows this very area, from a life of the memory that its word no longer tells of (a copy of
            // the crate, a TCB zeroed by hand): that is a registration like ours. Made anew, so that its ids are right
            // whatever was stored to them, and so that a filter that says EBUSY is told from a kernel.
            Err(Errno::BUSY) => {
                if self.rseq(area, length, FLAG_UNREGISTER).is_err() {
                    // Nothing is known: the kernel may go on writing here, and no CPU may be read from it.
                    return Err(Refusal {
                        reason: Reason::Refused,
                        errno: Some(Errno::BUSY),
                        written: true,
                    });
                }
                before = self.prepare(area);
                self.rseq(area, length, flags)?;
            }
            Err(errno) => return Err(errno.into()),
        }
        if self.is_confirmed(area, length, before) {
            return Ok(());
        }
        // "Success" and no CPU: an emulator, or a filter that answers 0. Make sure that nothing is registered.
        let _ = self.rseq(area, length, FLAG_UNREGISTER);
        Err(Reason::Pretended.into())
    }

    /// What an older kernel wants to find: a stale `rseq_cs` is fatal at registration before 6.17, and CONFIG_DEBUG_RSEQ
    /// (6.14 to 6.18) compares all other fields but `cpu_id` with zero. From 7.0 the kernel lays out the area by itself; and
    /// should it know this very area, it would kill for a store to an id. Returns the `cpu_id` that it will find.
    fn prepare(&self, area: &Area) -> i32 {
        if !self.kernel_lays_out() {
            area.clear();
        }
        area.cpu_id()
    }

    /// After success: has the kernel written a CPU, where `before` was?
    fn is_confirmed(&self, area: &Area, length: u32, before: i32) -> bool {
        let cpu = area.cpu_id();
        // Zeroed memory shows CPU 0 before and after, and so does a pretender's; the kernel alone knows the area now.
        let is_the_same = before >= 0 && cpu == before;
        cpu >= 0 && (!is_the_same || self.rseq(area, length, 0) == Err(Errno::BUSY))
    }

    /// Unregisters an area that was registered with `length`.
    pub(crate) fn unregister(&self, area: &Area, length: u32) -> Result<(), Errno> {
        // A section that ended normally leaves its descriptor behind; the kernel must not read it once the
        // memory that holds it is gone.
        area.kernel.rseq_cs.store(0, Relaxed);
        compiler_fence(SeqCst);
        self.rseq(area, length, FLAG_UNREGISTER)?;
        // The kernel writes -1 before it lets go. "Success" that left a CPU there was a pretended one (a filter
        // that came in the middle of the program's life), as good as no such call.
        if area.cpu_id() >= 0 {
            return Err(Errno::NOSYS);
        }
        Ok(())
    }

    fn rseq(&self, area: &Area, length: u32, flags: u32) -> Result<(), Errno> {
        // SAFETY: Kernel::rseq (1): conditions (1) and (2) of the create hook, by which every area comes here; the
        // exit hooks give out the proof that ends them.
        unsafe {
            self.kernel
                .rseq(&area.kernel, length, flags, arch::SIGNATURE)
        }
    }
}
