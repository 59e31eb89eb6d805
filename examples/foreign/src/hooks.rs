//! The hooks, as a start and a stop handler call them. Who brings the area decides where it lies.

use std::cell::Cell;

use rseq_rt::{Area, Config, Error, Exit, ExitMode, Process, SignalMask};

use crate::ledger;

/// The process.
pub static RSEQ: Process = Process::new();

thread_local! {
    static CURRENT: Cell<Option<&'static Area>> = const { Cell::new(None) };
}

/// Whether the memory of an area may be used for something else now.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// The kernel does not write to it.
    Free,
    /// It may, for as long as the thread lives: a filter refuses rseq(2) since the thread has started, say.
    InUse,
}

/// On the main thread, before another one.
pub fn init() -> Result<(), Error> {
    // SAFETY: getauxval(3) only reads; 0 for an absent type.
    let auxv = |kind| match unsafe { libc::getauxval(kind) } {
        0 => None,
        value => usize::try_from(value).ok(),
    };
    // AT_RSEQ_FEATURE_SIZE and AT_RSEQ_ALIGN.
    RSEQ.init(Config::new(auxv(27), auxv(28))).map(drop)
}

/// The start handler: first thing on the thread.
///
/// # Safety
/// 1. `area` is this thread's alone, until [`stop`] has said that its memory is free.
pub unsafe fn start(area: &'static Area) -> Result<(), Error> {
    // SAFETY: on_thread_create (1, 2) are (1); (3) it goes no farther.
    let thread = unsafe { RSEQ.on_thread_create(area) }?;
    CURRENT.set(Some(area));
    ledger::started(thread.state());
    Ok(())
}

/// The stop handler: last thing on the thread that the runtime lets us do. Its own code and the libc's come after it.
pub fn stop() -> Result<Memory, Error> {
    let area = CURRENT.get().ok_or(Error::NotCreated)?;
    // SAFETY: current_thread (1) `start` put it there; (2) that one's `Thread` is gone.
    let thread = unsafe { RSEQ.current_thread(area) }?;
    let mask = SignalMask::block_all()?;
    let released = if cfg!(feature = "without-release") {
        let _kept = thread.on_exit_masked(ExitMode::Keep, &mask);
        true
    } else {
        let exit = thread.on_exit_masked(ExitMode::Release, &mask);
        matches!(exit, Exit::Released(_))
    };
    // Open again, unlike in a libc's own exit path: the libc has one to go yet, and while it waits there for a lock
    // of its own, whoever holds that lock may wait for this thread to take a signal (setuid(3) does, in all threads).
    // Nothing registers any more, since the area says that this thread exits.
    if !cfg!(feature = "left-blocked") {
        mask.restore()?;
    }
    ledger::stopped();
    Ok(if released {
        Memory::Free
    } else {
        Memory::InUse
    })
}

/// The calling thread's CPU, as this crate has it.
pub fn current_cpu() -> Option<u32> {
    let area = CURRENT.get()?;
    RSEQ.current_cpu(area).ok()
}
