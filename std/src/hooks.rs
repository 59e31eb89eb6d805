//! Optional hooks for a runtime's threads.
//!
//! Not inlined, like every function that looks up the thread: the address of its data must not be kept across a switch
//! of fibers.

use std::fmt;

use crate::cpus::possible_cpus;
use crate::here;

/// The implementation that the calling thread uses: see [`support`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Support {
    /// Critical sections, with the registration of the libc, such as glibc's from 2.35 on.
    LibcRegistration,
    /// Critical sections, with a registration of this crate.
    OwnRegistration,
    /// Atomics, with the reason and a remedy.
    Atomics(&'static str),
}

impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LibcRegistration => f.write_str("critical sections, registered by the libc"),
            Self::OwnRegistration => f.write_str("critical sections, registered by this crate"),
            Self::Atomics(why) => write!(f, "atomics: {why}"),
        }
    }
}

/// Does in advance what the thread's first use of this crate would do: registers it for rseq, if the libc has not.
/// Optional.
///
/// Pass it as a runtime's start handler: to rayon's `ThreadPoolBuilder::start_handler` (`|_| on_thread_start()`), to
/// tokio's `Builder::on_thread_start`. There are three reasons to call it: the first operation is then as fast as the
/// second; rseq(2) was called before a later filter (seccomp); and a signal handler may count afterwards.
///
/// System calls: none where the libc registers, else three, once for each thread; and once per process, those of
/// [`possible_cpus`]. A second call on the same thread does nothing.
#[inline(never)]
pub fn on_thread_start() {
    let _ = possible_cpus();
    here::start();
}

/// Ends the calling thread's registration, if it is this crate's. Optional: the thread's end does it.
///
/// Pass it as a runtime's stop handler: to rayon's `exit_handler`, to tokio's `on_thread_stop`. The only reason to call
/// it is a filter that is installed on the thread afterwards and refuses rseq(2). The thread may still use everything
/// in this crate, with atomics; it is not registered again.
///
/// System calls: none where the libc registers, else three.
#[inline(never)]
pub fn on_thread_stop() {
    here::stop();
}

/// The implementation that the calling thread uses, and why not a better one: for a log, or a test. Registers the thread
/// as [`on_thread_start`] does.
///
/// ```
/// println!("per-CPU counters: {}", rseq_rt_std::support());
/// ```
#[must_use]
#[inline(never)]
pub fn support() -> Support {
    here::support()
}
