//! What a runtime may tell of its threads. Nothing of it is needed.
//!
//! Not inlined, as everything that asks which thread it is: where the thread's data lies is not to be remembered over a
//! switch of fibers.

use std::fmt;

use crate::cpus::possible_cpus;
use crate::here;

/// By what the calling thread works: see [`support`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Support {
    /// Critical sections, by the registration of the libc, such as glibc's from 2.35 on.
    LibcRegistration,
    /// Critical sections, by a registration of this crate.
    OwnRegistration,
    /// Atomics, and why, with what helps.
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

/// Does here and now what the thread's first use of this crate would do: registers it for rseq, if the libc has not.
/// Optional.
///
/// It is the start handler of a runtime: of rayon's `ThreadPoolBuilder::start_handler` (`|_| on_thread_start()`), of tokio's
/// `Builder::on_thread_start`. There are three reasons to call it: the first operation is then as fast as the second;
/// a filter (seccomp) that comes later finds rseq(2) done; and a signal handler may count afterwards.
///
/// System calls: none where the libc registers, else three, once for each thread; and once a process, what [`possible_cpus`]
/// does. Again on the same thread, it does nothing.
#[inline(never)]
pub fn on_thread_start() {
    let _ = possible_cpus();
    here::start();
}

/// Ends the calling thread's registration, if it is this crate's. Optional: the thread's end does it.
///
/// It is the stop handler of a runtime: of rayon's `exit_handler`, of tokio's `on_thread_stop`. The one reason to call it is a
/// filter that is installed on the thread afterwards and refuses rseq(2). The thread may go on to use everything
/// in this crate, by atomics; it is not registered again.
///
/// System calls: none where the libc registers, else three.
#[inline(never)]
pub fn on_thread_stop() {
    here::stop();
}

/// By what the calling thread works, and why not by something better: for a log, or a test. Registers the thread as
/// [`on_thread_start`] does.
///
/// ```
/// println!("per-CPU counters: {}", rseq_rt_std::support());
/// ```
#[must_use]
#[inline(never)]
pub fn support() -> Support {
    here::support()
}
