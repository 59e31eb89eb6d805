//! Registration for the length of a scope: for code that returns instead of exiting.

use core::mem::ManuallyDrop;

use crate::process::Process;
use crate::sys::error::Error;
use crate::sys::kernel::{Kernel, Linux};
use crate::sys::mask::SignalMask;
use crate::thread::Thread;
use crate::thread::area::Area;

/// A thread that is registered until the value is dropped, and goes on living after that.
///
/// For a carrier thread that is lent to a scheduler, or a test.
#[must_use = "dropping it unregisters"]
#[derive(Debug)]
pub struct Scoped<'a, K: Kernel = Linux> {
    thread: Thread<'a, K>,
}

impl<K: Kernel> Process<K> {
    /// The create hook, undone at the end of the scope.
    ///
    /// # Errors
    /// As [`Process::on_thread_create`].
    ///
    /// # Safety
    /// 1. to 3. of [`Process::on_thread_create`]. Only [`Scoped::end`] proves that the memory
    ///    may be freed before the thread has ended; a plain drop cannot report a refusal.
    pub unsafe fn scoped<'a>(&'a self, area: &'a Area) -> Result<Scoped<'a, K>, Error> {
        // SAFETY: on_thread_create (1, 2, 3) are this function's conditions.
        let thread = unsafe { self.on_thread_create(area) }?;
        Ok(Scoped { thread })
    }
}

impl<'a, K: Kernel> Scoped<'a, K> {
    /// The thread, for its state and ids.
    pub const fn thread(&self) -> &Thread<'a, K> {
        &self.thread
    }

    /// Unregisters. The area is then a new one, and its memory free unless a signal handler calls
    /// [`Process::ensure_registered`] on it again. System calls: 3, or 0.
    ///
    /// # Errors
    /// `StillRegistered`, `NotMasked`: the thread may still be registered, its state says so, and
    /// the memory must outlive it. `Taken`: so must it, since it may hold somebody else's area of this thread.
    pub fn end(self) -> Result<(), Error> {
        ManuallyDrop::new(self).unregister()
    }

    fn unregister(&self) -> Result<(), Error> {
        let (process, area) = (self.thread.process(), self.thread.area());
        let seen = area.word.look();
        if seen.is_written() {
            let mask = SignalMask::block_all_on(&process.kernel)?;
            // From the kernel's -1 to the new word there is no CPU to be read, and SIGSYS is open: out of use until then.
            let loan = area.word.lend();
            let outcome = process.unregister(area, process.length());
            match outcome {
                Ok(()) => area.reset(),
                Err(_) => _ = area.word.end_loan(loan),
            }
            mask.restore_on(&process.kernel)?;
            return outcome.map_err(Error::StillRegistered);
        }
        // It may be this very area, known with another length: the kernel would kill for a store to its ids.
        if seen.is_taken() {
            area.word.reset();
            return Err(Error::Taken);
        }
        area.reset();
        Ok(())
    }
}

impl<K: Kernel> Drop for Scoped<'_, K> {
    fn drop(&mut self) {
        // A refusal leaves the thread registered, which Process::scoped (2) allows for.
        let _ = self.unregister();
    }
}
