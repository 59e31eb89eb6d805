//! What the program counts, to say at its end whether every thread was registered, read right and let go.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use rseq_rt::abi::{FLAG_UNREGISTER, LEGACY_LENGTH, Rseq};
use rseq_rt::structures::CpuSet;
use rseq_rt::{Area, Errno, Kernel, Linux, Owner, State, arch};

use crate::hooks::{self, RSEQ};

static STARTED: AtomicUsize = AtomicUsize::new(0);
static REGISTERED: AtomicUsize = AtomicUsize::new(0);
static STOPPED: AtomicUsize = AtomicUsize::new(0);
static LET_GO: AtomicUsize = AtomicUsize::new(0);
static LOOKS: AtomicUsize = AtomicUsize::new(0);
static AGREED: AtomicUsize = AtomicUsize::new(0);

/// A thread was started.
pub fn started(state: State) {
    let owner = RSEQ.owner();
    let registered = owner.is_some_and(|owner| state == State::Registered(owner));
    REGISTERED.fetch_add(usize::from(registered), SeqCst);
    STARTED.fetch_add(1, SeqCst);
}

/// A thread was stopped. The kernel tells what is left: the libc's registration where that owns, else none.
pub fn stopped() {
    let theirs = RSEQ.owner() == Some(Owner::Libc);
    LET_GO.fetch_add(usize::from(is_registered() == theirs), SeqCst);
    STOPPED.fetch_add(1, SeqCst);
}

/// Moves to each CPU that is allowed, and compares with getcpu(2) on it.
pub fn look() {
    let allowed = CpuSet::allowed();
    let mut agreed = allowed.is_ok();
    let allowed = allowed.unwrap_or_default();
    for cpu in allowed.iter() {
        let moved = CpuSet::one(cpu).allow();
        let asked = Linux.getcpu().ok().map(|(cpu, _)| cpu);
        agreed &= moved.is_ok() && hooks::current_cpu() == asked && asked == Some(cpu);
    }
    let _ = allowed.allow();
    LOOKS.fetch_add(1, SeqCst);
    AGREED.fetch_add(usize::from(agreed), SeqCst);
}

/// Waits until each thread that was to be started was, and has stopped.
pub fn settle(expected: usize) {
    while STARTED.load(SeqCst) < expected || STOPPED.load(SeqCst) < STARTED.load(SeqCst) {
        // Has every thread of the process take a signal, those on their way out included.
        // SAFETY: to be who one is already.
        unsafe { libc::setuid(libc::getuid()) };
        thread::yield_now();
    }
}

/// The verdict, in words as well. `least`: how many threads and looks there were to be.
pub fn verdict(owner: Owner, least: usize) -> bool {
    let count = |counter: &AtomicUsize| counter.load(SeqCst);
    let (started, stopped) = (count(&STARTED), count(&STOPPED));
    println!(
        "owner {:?}: threads {started}, registered {}, stopped {stopped}, let go {}, looks {}, agreed {}",
        RSEQ.owner(),
        count(&REGISTERED),
        count(&LET_GO),
        count(&LOOKS),
        count(&AGREED)
    );
    RSEQ.owner() == Some(owner)
        && started >= least
        && count(&REGISTERED) == started
        && stopped == started
        && count(&LET_GO) == started
        && count(&LOOKS) >= least
        && count(&AGREED) == count(&LOOKS)
}

/// Whether the kernel has any registration of the calling thread: a scratch one tells, and leaves none behind.
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
