//! A created thread, and its two ways out.

use core::marker::PhantomData;

use crate::area::Area;
use crate::at_exit::AtExit;
use crate::error::Error;
use crate::exit::{Gone, Kept, NotReleased};
use crate::kernel::{Kernel, Linux};
use crate::mask::SignalMask;
use crate::process::Process;
use crate::state::{Owner, State};

/// The calling thread, between its create hook and its exit hook.
///
/// Not `Send`, and without `Drop`: a thread leaves by [`Self::on_exit_keep`] or
/// [`Self::on_exit_release`], each of which consumes it.
///
/// ```
/// fn leave(thread: rseq_rt::Thread<'_>) {
///     let _kept = thread.on_exit_keep();
/// }
/// ```
///
/// Once only:
///
/// ```compile_fail,E0382
/// fn leave(thread: rseq_rt::Thread<'_>) {
///     let _kept = thread.on_exit_keep();
///     let _gone = thread.on_exit_release();
/// }
/// ```
///
/// Not while a loan is out:
///
/// ```compile_fail,E0505
/// fn leave(thread: rseq_rt::Thread<'_>) {
///     let lent = thread.lend();
///     let _kept = thread.on_exit_keep();
///     lent.end();
/// }
/// ```
///
/// And nowhere else:
///
/// ```compile_fail,E0277
/// fn leave(thread: rseq_rt::Thread<'static>) {
///     fn elsewhere<T: Send>(_: T) {}
///     elsewhere(thread);
/// }
/// ```
#[must_use = "a thread leaves by `on_exit_keep` or `on_exit_release`"]
#[derive(Debug)]
pub struct Thread<'a, K: Kernel = Linux> {
    process: &'a Process<K>,
    area: &'a Area,
    this_thread: PhantomData<*mut ()>,
}

impl<K: Kernel> Process<K> {
    /// The calling thread again, for a runtime that could not carry the [`Thread`] to its exit path.
    ///
    /// # Errors
    /// `NotCreated`, `Exiting`, `Lent`. Nothing is changed.
    ///
    /// # Safety
    /// 1. `area` is the one that the calling thread gave to the create hook, or to `ensure_registered`.
    /// 2. No other `Thread` of it is used after this call.
    pub unsafe fn current_thread<'a>(&'a self, area: &'a Area) -> Result<Thread<'a, K>, Error> {
        match area.state() {
            State::Unregistered => Err(Error::NotCreated),
            State::Exiting => Err(Error::Exiting),
            State::Lent => Err(Error::Lent),
            State::Registered(_) | State::Unavailable(_) => Ok(Thread::new(self, area)),
        }
    }
}

impl<'a, K: Kernel> Thread<'a, K> {
    pub(crate) const fn new(process: &'a Process<K>, area: &'a Area) -> Self {
        Self {
            process,
            area,
            this_thread: PhantomData,
        }
    }

    /// What is true of this thread.
    #[inline]
    pub fn state(&self) -> State {
        self.area.state()
    }

    /// Its area.
    #[inline]
    pub const fn area(&self) -> &'a Area {
        self.area
    }

    /// Its process.
    #[inline]
    pub const fn process(&self) -> &'a Process<K> {
        self.process
    }

    /// The first step of every exit: calls the at-exit callbacks, last added first, and closes the stack.
    ///
    /// Signals stay open and rseq works in them. The thread that turns out to be
    /// the last one, and so runs atexit handlers, does that before it as well.
    pub fn run_at_exit<const N: usize>(&self, callbacks: &AtExit<N>) {
        callbacks.run();
    }

    /// The exit hook of a thread whose memory outlives it: blocks all signals, and that is all.
    ///
    /// The kernel stops writing to the area when the task begins to exit, before it
    /// zeroes and wakes the clear-tid word; so whoever waits for that word may
    /// reuse the memory, and unregistering would be a wasted system call.
    /// System calls: 1 (mask); 0 under a foreign owner.
    pub fn on_exit_keep(self) -> Kept {
        if !self.is_foreign() {
            // Nothing more could be done without the mask, and nothing needs to: this memory outlives the handlers.
            let _ = SignalMask::block_all_on(&self.process.kernel);
        }
        self.latch_exiting();
        Kept::new()
    }

    /// As [`Self::on_exit_keep`], with signals already blocked. No system call.
    pub fn on_exit_keep_masked(self, _signals_are_blocked: &SignalMask) -> Kept {
        self.latch_exiting();
        Kept::new()
    }

    /// The exit hook of a thread that unmaps its own memory or hands it to a pool: blocks all signals, unregisters.
    ///
    /// System calls: 2 (mask, unregister); 1 where nothing was registered; 0 under a foreign owner.
    ///
    /// Not in the stop handler of a runtime that goes on with this thread: signals stay blocked, and a libc that
    /// waits for all of its threads to take one (setuid(3)) then waits forever. Block them, call
    /// [`Self::on_exit_release_masked`], and restore.
    ///
    /// # Errors
    /// [`NotReleased`]: the kernel may still write to the area (a filter that came in
    /// the middle of the program's life refuses rseq(2), say). The exit is
    /// then a *keep*: the memory must outlive the thread.
    pub fn on_exit_release(self) -> Result<Gone<'a>, NotReleased> {
        if self.is_foreign() {
            self.latch_exiting();
            return Ok(Gone::new(self.area, false));
        }
        match SignalMask::block_all_on(&self.process.kernel) {
            Ok(mask) => self.on_exit_release_masked(&mask),
            Err(error) => {
                self.latch_exiting();
                Err(NotReleased::new(error))
            }
        }
    }

    /// As [`Self::on_exit_release`], with signals already blocked. System calls: 1 (unregister), or 0.
    ///
    /// # Errors
    /// As [`Self::on_exit_release`].
    pub fn on_exit_release_masked(
        self,
        _signals_are_blocked: &SignalMask,
    ) -> Result<Gone<'a>, NotReleased> {
        // A loan that was forgotten (`mem::forget` is safe) hides nothing from this question.
        let registered = self.area.is_written_by_kernel();
        self.latch_exiting();
        if registered {
            let length = self.process.length();
            self.process
                .unregister(self.area, length)
                .map_err(|errno| NotReleased::new(Error::StillRegistered(errno)))?;
        }
        Ok(Gone::new(self.area, true))
    }

    /// After the mask, before the unregistration: from here no late lazy call registers this thread again.
    fn latch_exiting(&self) {
        self.area.set_state(State::Exiting);
    }

    fn is_foreign(&self) -> bool {
        self.process.owner() == Some(Owner::Libc) && !self.area.is_written_by_kernel()
    }
}
