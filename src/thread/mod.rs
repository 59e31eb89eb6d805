//! A created thread, and its two ways out.

pub(crate) mod area;
pub(crate) mod at_exit;
mod current;
pub(crate) mod deferred;
pub(crate) mod exit;
pub(crate) mod fork;
pub(crate) mod reclaim;
mod register;
pub(crate) mod scoped;
pub(crate) mod slice;
mod word;

use core::marker::PhantomData;

use crate::process::Process;
use crate::process::state::{Owner, State};
use crate::sys::error::{Errno, Error};
use crate::sys::kernel::{Kernel, Linux};
use crate::sys::mask::SignalMask;
use crate::thread::area::Area;
use crate::thread::at_exit::AtExit;
use crate::thread::exit::{Exit, ExitMode, Gone, Kept};

/// The calling thread, between its create hook and its exit hook.
///
/// Not `Send`, and without `Drop`: a thread leaves by [`Self::on_exit`], which consumes it.
///
/// ```
/// fn leave(thread: rseq_rt::Thread<'_>) {
///     let _exit = thread.on_exit(rseq_rt::ExitMode::Keep);
/// }
/// ```
///
/// Once only:
///
/// ```compile_fail,E0382
/// fn leave(thread: rseq_rt::Thread<'_>) {
///     let _exit = thread.on_exit(rseq_rt::ExitMode::Keep);
///     let _again = thread.on_exit(rseq_rt::ExitMode::Release);
/// }
/// ```
///
/// Not while a loan is out:
///
/// ```compile_fail,E0505
/// fn leave(thread: rseq_rt::Thread<'_>) {
///     let lent = thread.lend();
///     let _exit = thread.on_exit(rseq_rt::ExitMode::Keep);
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
#[must_use = "a thread leaves by `on_exit`"]
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
        let seen = area.word.look();
        match seen.state() {
            State::Exiting => Err(Error::Exiting),
            State::Lent => Err(Error::Lent),
            _ if seen.is_untouched() => Err(Error::NotCreated),
            _ => Ok(Thread::new(self, area)),
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

    /// The state of this thread.
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

    /// The exit hook: blocks all signals (all but SIGSYS, see [`SignalMask`]), latches the end, and on
    /// [`ExitMode::Release`] makes the kernel let go of the area.
    ///
    /// Under every owner the same: [`Exit::Released`] says that signals are blocked, that this runtime's registration is
    /// gone, and that no other area of this thread is known to be registered. In all other cases the memory must
    /// outlive the thread, and [`Kept::why`] says why.
    /// System calls: keep 1 (mask), and 0 where a libc owns; release 2 (mask, unregister), and 1 where nothing was
    /// registered or a libc owns.
    ///
    /// Not in the stop handler of a runtime that goes on with this thread: signals stay blocked, and a libc that
    /// waits for all of its threads to take one (setuid(3)) then waits forever. Block them, call
    /// [`Self::on_exit_masked`], and restore.
    pub fn on_exit(self, mode: ExitMode) -> Exit<'a> {
        // Memory that the libc keeps anyway, and nothing of ours in it that a handler could touch.
        let unguarded = mode == ExitMode::Keep
            && self.process.owner() == Some(Owner::Libc)
            && !self.area.word.look().is_written();
        let masked = if unguarded {
            Ok(())
        } else {
            SignalMask::block_all_on(&self.process.kernel).map(drop)
        };
        self.leave(mode, masked)
    }

    /// As [`Self::on_exit`], with all signals but SIGSYS blocked already. System calls: keep 0; release 1 (unregister),
    /// or 0.
    pub fn on_exit_masked(self, mode: ExitMode, _signals_are_blocked: &SignalMask) -> Exit<'a> {
        self.leave(mode, Ok(()))
    }

    fn leave(self, mode: ExitMode, masked: Result<(), Error>) -> Exit<'a> {
        // After the mask and before the unregistration: from here no late lazy call registers this thread again.
        self.area.word.latch();
        // Keep wants the mask for the sake of handlers alone, and this memory outlives them.
        if mode == ExitMode::Keep {
            return Exit::Kept(Kept::new(self.area, None));
        }
        match masked.and_then(|()| self.release()) {
            Ok(()) => Exit::Released(Gone::new(self.area, self.process.libc_address())),
            Err(why) => {
                self.area.word.refuse_release(why);
                Exit::Kept(Kept::new(self.area, Some(why)))
            }
        }
    }

    /// Makes the kernel let go of the area, with signals blocked.
    fn release(&self) -> Result<(), Error> {
        // Behind the latch: whatever a handler did before it is seen, and none claims any more.
        let seen = self.area.word.look();
        if seen.is_taken() {
            return Err(Error::Taken);
        }
        // A loan that was forgotten (`mem::forget` is safe) hides nothing from this question.
        if seen.is_written() {
            let shows_cpu = self.area.cpu_id() >= 0;
            let unregister = || self.process.unregister(self.area, self.process.length());
            unregister().map_err(Error::StillRegistered)?;
            // A CPU that has gone proves the answer. Where there was none, in a child's repair that was refused, the kernel
            // is asked once more: for an area that it does not know it says so, and a filter that pretends does not.
            if !shows_cpu && unregister() != Err(Errno::INVAL) {
                return Err(Error::StillRegistered(Errno::NOSYS));
            }
            self.area.word.release();
        }
        Ok(())
    }
}
