//! Detached threads whose memory has to stay: handed to a list, and unmapped by a later one; or leaked, where even that
//! cannot be known.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use linux_raw_sys::general::{__NR_set_tid_address, SIGSEGV};
use rseq_rt::{
    Area, ClearTidPlace, Deferred, Error, Exit, ExitMode, Owner, Reason, State, Thread, arch,
};

use super::filtered::joined;
use super::lifetime::init;
use crate::errno::Errno;
use crate::harness::{Ctx, Failed, Needs, PASSED, Test, Verdict, expect_killed_by, failed};
use crate::hooked::{self, Hooked, RSEQ};
use crate::seccomp::{self, Answer, When};
use crate::stack::Stack;
use crate::sys::mm::{self, Access};
use crate::sys::rseq::rseq;
use crate::sys::sched::{self, CpuSet};
use crate::sys::{process, signal};
use crate::tcb::Tcb;
use crate::thread::spawn;
use crate::{check, passed, tcb, text};

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("lifetime/taken-thread-is-kept-and-swept", taken_and_swept).needs(Needs::RSEQ),
    Test::new(
        "lifetime/taken-thread-unmapped-is-fatal",
        taken_and_unmapped,
    )
    .needs(Needs::RSEQ.cpus(2)),
    Test::new("lifetime/clear-tid-that-stays-is-a-leak", leaks).needs(Needs::SECCOMP),
];

const STACK: usize = 16 * 1024;

/// The block of a thread on which other code registers an area of its own, in the same mapping: an allocator's in the
/// TLS of a libc that keeps that with the stack, say.
struct Shared {
    other: Area,
    ours: Area,
    unmaps: bool,
}

/// Where the mappings of such threads were.
const THREADS: usize = 64;
static STACKS: [AtomicUsize; THREADS] = [const { AtomicUsize::new(0) }; THREADS];
static LENGTH: AtomicUsize = AtomicUsize::new(0);
static KEPT: AtomicU32 = AtomicU32::new(0);
static DEFERRED: Deferred = Deferred::new();

unsafe extern "C" fn main_of_taken(argument: *mut u8) -> ! {
    // SAFETY: `start` gave the thread its own block.
    let block = unsafe { &*argument.cast::<Tcb<Shared>>() };
    let stack = block.head.stack();
    let shared = &block.payload;
    let at = shared.other.as_rseq().cast_mut().cast();
    // SAFETY: rseq (1) in the block, which is unmapped after the end, or in the variant that must die; (2) nobody's.
    let registered = unsafe { rseq(at, 32, 0, arch::SIGNATURE) };
    // SAFETY: on_thread_create (1, 3) its own area; (2) unmapped by the exit below.
    let created = unsafe { RSEQ.on_thread_create(&shared.ours) };
    let (Ok(()), Ok(thread)) = (registered, created) else {
        process::exit_group(3)
    };
    let taken = thread.state() == State::Unavailable(Reason::Taken);
    let exit = thread.on_exit(ExitMode::Release);
    if let (true, Exit::Kept(kept)) = (taken, &exit)
        && kept.why() == Some(Error::Taken)
    {
        KEPT.fetch_add(1, Relaxed);
    }
    if shared.unmaps {
        // SAFETY: not at all: the kernel writes to `other`. This is the variant that must die.
        unsafe { arch::unmap_and_exit(stack.base(), stack.len(), 0) }
    }
    let (base, length) = (stack.base(), stack.len());
    // SAFETY: unmap_and_exit (1) the stack and the block are this thread's alone; (2) the word is in the block; (3) no
    // robust list; (4) nothing waits to be dropped; (5) the list is swept to its end.
    unsafe { exit.unmap_and_exit(base, length, ClearTidPlace::Inside, &DEFERRED, 0) }
}

/// Starts such a thread; its id.
fn start(nth: usize, unmaps: bool) -> Result<u32, Errno> {
    let stack = Stack::map(STACK)?;
    LENGTH.store(stack.len(), Relaxed);
    if let Some(place) = STACKS.get(nth) {
        place.store(stack.base().expose_provenance(), Relaxed);
    }
    let shared = Shared {
        other: Area::new(),
        ours: Area::new(),
        unmaps,
    };
    let block = Tcb::on(stack, shared)?;
    // SAFETY: spawn (1) a stack that nobody else has; (2, 3) the block on top of it outlives the thread, or not, in
    // the variant that must die; (4) `main_of_taken` takes its own block.
    unsafe {
        let head = &raw mut (*block).head;
        let word = if unmaps {
            core::ptr::null_mut()
        } else {
            (*head).alive.as_ptr()
        };
        spawn(block.cast(), head, word, main_of_taken, block.cast())
    }
}

fn wait(tid: u32, cpus: CpuSet) {
    // On the move, so that the kernel writes wherever it thinks the area is.
    while signal::kill_thread(tid, 0).is_ok() {
        for cpu in cpus.iter() {
            let _ = sched::allow(tid, &CpuSet::one(cpu));
        }
        sched::relax();
    }
}

fn is_mapped(base: usize) -> bool {
    let base = core::ptr::with_exposed_provenance_mut(base);
    // SAFETY: protect (1): no thread runs there any more, and mprotect(2) says ENOMEM of what is not mapped.
    let answer = unsafe { mm::protect(base, LENGTH.load(Relaxed), Access::Read) };
    answer != Err(Errno::NOMEM)
}

fn taken_and_swept(ctx: &Ctx<'_>) -> Verdict {
    fn free(thread: &Thread<'_>, _: &Hooked) {
        if thread.state() != State::Registered(Owner::Runtime) {
            let _ = failed(text!("the next thread is not free"));
        }
    }
    init(ctx)?;
    let cpus = sched::allowed()?;
    let threads = ctx.scale(THREADS as u64, 16, 0) as usize;
    for nth in 0..threads {
        // Of the first, too: it decides nothing for the next.
        wait(start(nth, false)?, cpus);
        joined(free)?;
    }
    let kept = KEPT.load(Relaxed) as usize;
    check!(kept == threads, "only ", kept, " were kept");
    // Each has swept what was there; the last is left.
    while DEFERRED.sweep() != 0 {}
    for place in STACKS.iter().take(threads) {
        let base = place.load(Relaxed);
        check!(!is_mapped(base), "the mapping of a thread was not swept");
    }
    passed!(threads, " threads")
}

/// The broken variant: unmapped as if nothing were known.
fn taken_and_unmapped(ctx: &Ctx<'_>) -> Verdict {
    init(ctx)?;
    let cpus = sched::allowed()?;
    let threads = ctx.scale(20_000, 5_000, 0);
    expect_killed_by(SIGSEGV as i32, || {
        for _ in 0..threads {
            match start(THREADS, true) {
                Ok(tid) => wait(tid, cpus),
                Err(_) => process::exit_group(2),
            }
        }
    })?;
    passed!("killed within ", threads, " threads")
}

/// The kernel cannot be told to forget the word in the memory that would go: it would zero somebody else's.
fn leaks(ctx: &Ctx<'_>) -> Verdict {
    static BASE: AtomicUsize = AtomicUsize::new(0);
    static TID: AtomicU32 = AtomicU32::new(0);
    static WORD: AtomicUsize = AtomicUsize::new(0);
    fn body(_: &Thread<'_>, hooked: &Hooked) {
        let stack = tcb::current().stack();
        LENGTH.store(stack.len(), Relaxed);
        BASE.store(stack.base().expose_provenance(), Relaxed);
        WORD.store(hooked.clear_tid.as_ptr().expose_provenance(), Relaxed);
        TID.store(process::gettid(), Relaxed);
    }
    fn one() -> Result<(), Failed> {
        TID.store(0, Relaxed);
        hooked::start_detached(STACK, body, 0)?;
        while TID.load(Relaxed) == 0 {
            sched::relax();
        }
        while signal::kill_thread(TID.load(Relaxed), 0).is_ok() {
            sched::relax();
        }
        Ok(())
    }
    init(ctx)?;
    one()?;
    check!(!is_mapped(BASE.load(Relaxed)), "kept without a reason");
    seccomp::install(
        __NR_set_tid_address,
        When::Always,
        Answer::Errno(Errno::PERM),
    )?;
    for _ in 0..3 {
        one()?;
        let word = core::ptr::with_exposed_provenance::<u32>(WORD.load(Relaxed));
        check!(is_mapped(BASE.load(Relaxed)), "unmapped under clear-tid");
        // SAFETY: still mapped, as was just seen, and the only writer is gone.
        let word = unsafe { word.read_volatile() };
        check!(word == 0, "clear-tid wrote ", word);
        check!(hooked::DEFERRED.sweep() == 0, "on the list all the same");
    }
    PASSED
}
