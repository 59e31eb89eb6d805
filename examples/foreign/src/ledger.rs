//! Counters from which the program decides at its end whether every thread was registered, read correct CPU numbers and
//! was released.

use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use rseq_rt::abi::{FLAG_UNREGISTER, LEGACY_LENGTH, Rseq};
use rseq_rt::structures::CpuSet;
use rseq_rt::{Area, Errno, Kernel, Linux, arch};
use rseq_rt_std::{Counter, Support, current_cpu, support};

/// Threads started, in an atomic; live threads, in a per-CPU counter.
static STARTED: AtomicUsize = AtomicUsize::new(0);
static COUNTED: Counter = Counter::new();

static SUPPORT: OnceLock<Support> = OnceLock::new();
static REGISTERED: AtomicUsize = AtomicUsize::new(0);
static STOPPED: AtomicUsize = AtomicUsize::new(0);
static LET_GO: AtomicUsize = AtomicUsize::new(0);
static LOOKS: AtomicUsize = AtomicUsize::new(0);
static AGREED: AtomicUsize = AtomicUsize::new(0);

/// A thread was started.
pub fn started() {
    let found = support();
    let first = SUPPORT.get_or_init(|| found);
    REGISTERED.fetch_add(usize::from(found == *first), SeqCst);
    COUNTED.add(1);
    STARTED.fetch_add(1, SeqCst);
}

/// A thread was stopped. The kernel must report the libc's registration where the libc owns rseq, else none.
pub fn stopped() {
    COUNTED.sub(1);
    let theirs = SUPPORT.get() == Some(&Support::LibcRegistration);
    LET_GO.fetch_add(usize::from(is_registered() == theirs), SeqCst);
    STOPPED.fetch_add(1, SeqCst);
}

/// Makes the thread's last destructor count it as stopped. Call it before the thread's first use of anything else.
pub fn stopped_at_the_end() {
    struct Last;
    impl Drop for Last {
        fn drop(&mut self) {
            stopped();
        }
    }
    // Destructors run in the reverse order of first uses.
    thread_local!(static LAST: Last = const { Last });
    LAST.with(|_| ());
}

/// Moves to each allowed CPU, and compares with getcpu(2) on it.
pub fn look() {
    let allowed = CpuSet::allowed();
    let mut agreed = allowed.is_ok();
    let allowed = allowed.unwrap_or_default();
    for cpu in allowed.iter() {
        let moved = CpuSet::one(cpu).allow();
        let asked = Linux.getcpu().ok().map(|(cpu, _)| cpu);
        agreed &= moved.is_ok() && current_cpu() == cpu as usize && asked == Some(cpu);
    }
    let _ = allowed.allow();
    LOOKS.fetch_add(1, SeqCst);
    AGREED.fetch_add(usize::from(agreed), SeqCst);
}

/// Waits until every expected thread has started and stopped.
pub fn settle(expected: usize) {
    while STARTED.load(SeqCst) < expected || STOPPED.load(SeqCst) < STARTED.load(SeqCst) {
        // Makes every thread of the process take a signal, including exiting ones.
        // SAFETY: sets the present id again.
        unsafe { libc::setuid(libc::getuid()) };
        thread::yield_now();
    }
}

/// The verdict, printed as well. `least`: the minimum number of threads and comparisons.
pub fn verdict(expected: Support, least: usize) -> bool {
    let count = |counter: &AtomicUsize| counter.load(SeqCst);
    let (started, stopped) = (count(&STARTED), count(&STOPPED));
    let found = SUPPORT.get().copied().unwrap_or_else(support);
    println!(
        "{found}: threads {started}, registered {}, stopped {stopped}, let go {}, looks {}, agreed {}, left {}",
        count(&REGISTERED),
        count(&LET_GO),
        count(&LOOKS),
        count(&AGREED),
        COUNTED.sum(),
    );
    found == expected
        && started >= least
        && count(&REGISTERED) == started
        && stopped == started
        && count(&LET_GO) == started
        && count(&LOOKS) >= least
        && count(&AGREED) == count(&LOOKS)
        && COUNTED.sum() == 0
}

/// Whether the kernel has any registration of the calling thread. Tested by a scratch registration, which is undone.
fn is_registered() -> bool {
    let scratch = Area::new();
    let area: *const Rseq = scratch.as_rseq();
    // SAFETY: Kernel::rseq (1): unregistered at once.
    let ask = |flags| unsafe { Linux.rseq(area, LEGACY_LENGTH, flags, arch::SIGNATURE) };
    match ask(0) {
        Ok(()) => ask(FLAG_UNREGISTER).is_err(),
        Err(errno) => errno == Errno::INVAL,
    }
}
