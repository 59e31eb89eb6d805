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

/// Why the kernel did not register, and what it said.
#[derive(Clone, Copy)]
struct Refusal {
    reason: Reason,
    errno: Option<Errno>,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self {
            reason: Reason::of(errno),
            errno: Some(errno),
        }
    }
}

impl<K: Kernel> Process<K> {
    /// The create hook: what the runtime calls on each new thread, the main one included, before user code.
    ///
    /// Assumes nothing about the signal mask and leaves it exactly as found. A
    /// thread that the kernel refuses runs on: [`Thread::state`] says why.
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
        self.admit(area)?;
        if area.state_byte() == State::UNREGISTERED {
            self.register_with_signals_open(area);
        }
        area.set_created(true);
        Ok(Thread::new(self, area))
    }

    /// The create hook for a thread whose signals are all blocked. System calls: 1 (register), or 0.
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
        self.admit(area)?;
        self.settle_thread(area);
        area.set_created(true);
        Ok(Thread::new(self, area))
    }

    /// Lazy registration, for a library whose runtime calls no create hook. Async-signal-safe.
    ///
    /// One load once the thread's state is known, whatever it is: a refused
    /// thread is not tried again. Never registers a thread that exits.
    ///
    /// # Errors
    /// `NotInitialized`. Nothing is changed.
    ///
    /// # Safety
    /// 1. and 2. of [`Self::on_thread_create`]. A libc may free dynamic TLS while the thread
    ///    still runs, so an area there needs [`Thread::on_exit_release`] before that.
    #[inline]
    pub unsafe fn ensure_registered(&self, area: &Area) -> Result<State, Error> {
        if area.state_byte() == State::UNREGISTERED {
            self.ensure_initialized()?;
            self.register_with_signals_open(area);
        }
        Ok(area.state())
    }

    fn ensure_initialized(&self) -> Result<(), Error> {
        match self.decision() {
            Decision::Uninitialized | Decision::Initializing => Err(Error::NotInitialized),
            _ => Ok(()),
        }
    }

    fn admit(&self, area: &Area) -> Result<(), Error> {
        self.ensure_initialized()?;
        match area.state() {
            State::Exiting => Err(Error::Exiting),
            State::Lent => Err(Error::Lent),
            _ if area.is_created() => Err(Error::AlreadyCreated),
            _ => Ok(()),
        }
    }

    #[cold]
    fn register_with_signals_open(&self, area: &Area) {
        if !matches!(
            self.decision(),
            Decision::Undecided | Decision::Runtime { .. }
        ) {
            return self.settle_thread(area);
        }
        match SignalMask::block_all_on(&self.kernel) {
            Ok(mask) => {
                self.settle_thread(area);
                // It was set a moment ago, so it can be set back; and a create hook never fails a thread.
                let _ = mask.restore_on(&self.kernel);
            }
            Err(error) => {
                let errno = Errno::from_raw(error.raw_os_error());
                area.give_up(Reason::NotMasked, errno);
            }
        }
    }

    /// Gives the thread its state. Signals are blocked, or nothing will be registered.
    fn settle_thread(&self, area: &Area) {
        // Look again: a handler may have registered between the caller's look and the mask.
        while area.state_byte() == State::UNREGISTERED {
            let refusal = match self.decision() {
                Decision::Libc => return area.set_state(State::Registered(Owner::Libc)),
                Decision::Taken => Refusal {
                    reason: Reason::Taken,
                    errno: None,
                },
                Decision::Nobody(reason) => Refusal {
                    reason,
                    errno: None,
                },
                Decision::Runtime { length } => match self.register(area, u32::from(length)) {
                    Ok(()) => return area.set_state(State::Registered(Owner::Runtime)),
                    Err(refusal) => refusal,
                },
                _ => match self.register_first(area) {
                    Ok(length) => {
                        let decision = Decision::Runtime {
                            length: length as u16,
                        };
                        if self.settle(decision) == decision {
                            return area.set_state(State::Registered(Owner::Runtime));
                        }
                        // Another thread decided otherwise a moment ago: undo, and do as it says. If that is refused,
                        // the kernel goes on writing here, and the state must not deny it.
                        if self.unregister(area, length).is_err() {
                            return area.set_state(State::Registered(Owner::Runtime));
                        }
                        continue;
                    }
                    Err(refusal) => {
                        self.settle_refused(refusal.reason);
                        refusal
                    }
                },
            };
            area.mark_refused();
            area.set_unavailable(State::Unavailable(refusal.reason), refusal.errno);
        }
    }

    /// What the first thread's refusal means for the process. Bad memory is that thread's own affair.
    fn settle_refused(&self, reason: Reason) {
        let _ = match reason {
            Reason::BadMemory => return,
            Reason::Taken => self.settle(Decision::Taken),
            reason => self.settle(Decision::Nobody(reason)),
        };
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
        area.prepare();
        match self.rseq(area, length, flags) {
            Ok(()) => {}
            // The kernel knows this very area, from a life of the memory that its flag no longer tells of (a copy of
            // the crate, a TCB zeroed by hand), and `prepare` has just overwritten its ids. Start clean.
            Err(Errno::BUSY) => {
                if self.rseq(area, length, FLAG_UNREGISTER).is_err() {
                    // Refused: the kernel goes on writing here, and the state must not deny it, nor `-2` be stored.
                    return Ok(());
                }
                area.prepare();
                self.rseq(area, length, flags)?;
            }
            Err(errno) => return Err(errno.into()),
        }
        if area.confirm() {
            return Ok(());
        }
        // "Success" and no CPU: an emulator, or a filter that answers 0. Make sure that nothing is registered.
        let _ = self.rseq(area, length, FLAG_UNREGISTER);
        Err(Refusal {
            reason: Reason::Pretended,
            errno: None,
        })
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
