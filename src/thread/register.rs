//! The create hook, lazy registration, and the one place that talks rseq(2).

use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::compiler_fence;

use crate::arch;
use crate::process::Process;
use crate::process::decision::Decision;
use crate::process::state::{Reason, State};
use crate::sys::abi::FLAG_UNREGISTER;
use crate::sys::error::{Errno, Error};
use crate::sys::kernel::Kernel;
use crate::sys::mask::SignalMask;
use crate::thread::Thread;
use crate::thread::area::Area;
use crate::thread::word::Outcome;

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
    ///    with no thread pointer of that libc, has no area of it to be found.
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

    pub(crate) fn ensure_initialized(&self) -> Result<(), Error> {
        if self.decision().is_initialized() {
            Ok(())
        } else {
            Err(Error::NotInitialized)
        }
    }

    /// With handlers kept out, so that the first one finds the thread registered. What keeps them from registering as
    /// well is the claim, so that a filter that refuses the mask is no reason not to register.
    #[cold]
    fn register_with_signals_blocked(&self, area: &Area) {
        let asks_kernel = self.decision().outcome().is_none() && area.word.look().is_open();
        let mask = asks_kernel.then(|| SignalMask::block_all_on(&self.kernel));
        self.register_thread(area);
        if let Some(Ok(mask)) = mask {
            // It was set a moment ago, so it can be set back; and a create hook never fails a thread.
            let _ = mask.restore_on(&self.kernel);
        }
    }

    /// Gives the thread its state, unless it has one or somebody is at it.
    #[cold]
    #[inline(never)]
    fn register_thread(&self, area: &Area) {
        let decided = self.decision().outcome().map(Outcome::decided);
        // Where no kernel is asked signals may be open: without a claim there is nothing that a handler could find half done.
        if !area.word.open(decided.unwrap_or(Outcome::CLAIMED)) {
            return;
        }
        let outcome = decided.unwrap_or_else(|| {
            let outcome = self.register(area);
            area.word.resolve(outcome);
            outcome
        });
        // An area that nobody registered says so to who looks there alone.
        if outcome.is_refused() && !outcome.is(Reason::BadMemory) {
            area.mark_refused();
        }
    }

    /// The registration after a claim: nobody else registers or unregisters this area until it is resolved.
    #[cold]
    pub(crate) fn register(&self, area: &Area) -> Outcome {
        let (mut attempt, mut is_again) = (self.decision(), false);
        loop {
            if let Some(code) = attempt.outcome() {
                return Outcome::decided(code);
            }
            let outcome = self.try_register(area, attempt);
            // The kernel knows this very area, from a life of the memory that its word no longer tells of (a copy of the
            // crate, a TCB zeroed by hand): that is a registration like ours. Made anew, so that its ids are right whatever
            // was stored to them, and so that a filter that says EBUSY is told from a kernel.
            if outcome == Outcome::BUSY
                && !is_again
                && self.unregister(area, attempt.length()).is_ok()
            {
                is_again = true;
                continue;
            }
            if outcome.is(Reason::Taken)
                && let Some(weaker) = attempt.weaker()
            {
                attempt = weaker;
                continue;
            }
            if !attempt.is_open() {
                return outcome;
            }
            // A kernel without rseq has none for anybody. Every other refusal is about this thread: its filter, its
            // memory, somebody else's area of it.
            let decision = if outcome.is_registered() {
                attempt.runtime()
            } else if outcome.is(Reason::NoSyscall) {
                attempt.nobody(Reason::NoSyscall)
            } else {
                return outcome;
            };
            // If another thread decided otherwise a moment ago: undo, and do as it says. If that is refused, the kernel
            // goes on writing here, and the state must not deny it.
            let holds = self.settle(decision);
            if holds == decision
                || !outcome.is_registered()
                || self.unregister(area, attempt.length()).is_err()
            {
                return outcome;
            }
            attempt = holds;
        }
    }

    #[cold]
    fn try_register(&self, area: &Area, attempt: Decision) -> Outcome {
        // The fields that older kernels check: a stale `rseq_cs` is fatal at registration before 6.17, and
        // CONFIG_DEBUG_RSEQ (6.14 to 6.18) compares all other fields but `cpu_id` with zero. From 7.0 the kernel lays
        // out the area by itself; and should it know this very area, it would kill for a store to an id.
        if !attempt.kernel_lays_out() {
            area.clear();
        }
        let (before, length) = (area.cpu_id(), attempt.length());
        match self.rseq(area, length, attempt.flags()) {
            Ok(()) if self.is_confirmed(area, length, before) => {
                Outcome::registered(area.slice_is_enabled())
            }
            Ok(()) => {
                // "Success" and no CPU: an emulator, or a filter that answers 0. Make sure that nothing is registered.
                // Nothing is where no CPU is left. Else it may be, by a filter that came in between, whatever it answers.
                let pretended = Outcome::refused(Reason::Pretended);
                match self.unregister(area, length) {
                    Ok(()) => pretended,
                    Err(Errno::INVAL) if area.cpu_id() < 0 => pretended,
                    Err(_) => pretended.or_written(),
                }
            }
            Err(errno) => Outcome::refused_by(errno),
        }
    }

    /// After success: has the kernel written a CPU, where `before` was?
    fn is_confirmed(&self, area: &Area, length: u32, before: i32) -> bool {
        let cpu = area.cpu_id();
        // Zeroed memory shows CPU 0 before and after, and so does a pretender's; the kernel alone knows the area now.
        cpu >= 0 && (cpu != before || self.rseq(area, length, 0) == Err(Errno::BUSY))
    }

    /// Unregisters an area that was registered with `length`.
    #[cold]
    #[inline(never)]
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

    #[cold]
    #[inline(never)]
    fn rseq(&self, area: &Area, length: u32, flags: u32) -> Result<(), Errno> {
        // SAFETY: Kernel::rseq (1): conditions (1) and (2) of the create hook, by which every area comes here; the
        // exit hooks give out the proof that ends them.
        unsafe {
            self.kernel
                .rseq(&area.kernel, length, flags, arch::SIGNATURE)
        }
    }
}
