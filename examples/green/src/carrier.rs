//! Carriers: kernel threads that run green threads, and come and go through the hooks.

use core::ptr;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicPtr, AtomicU32};

use guests::entry::Env;
use guests::errno::Errno;
use guests::stack::Stack;
use guests::sys::process;
use guests::tcb::{self, Tcb};
use guests::thread::spawn;
use rseq_rt::{
    Area, Claim, ClearTid, ClearTidPlace, Config, Deferred, Error, ExitMode, Process, SignalMask,
    Thread,
};

use crate::green::Green;

/// The process's rseq.
pub static RSEQ: Process = Process::new();
/// The memory of detached carriers that were kept. Each start sweeps it.
static DEFERRED: Deferred = Deferred::new();

/// A carrier's own stack: the scheduler runs on it, green threads have theirs.
const STACK: usize = 64 * 1024;

/// What a carrier does between its hooks.
pub trait Schedule: Sync {
    /// Runs green threads until the carrier is to leave.
    fn run(&self, carrier: &Carrier, thread: &Thread<'_>);
    /// The last thing that a detached carrier does in memory that is not its own.
    fn left(&self);
}

/// How a carrier leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Keep: whoever holds the [`Joinable`] unmaps the stack after clear-tid.
    Joinable,
    /// Release: the carrier unmaps its own stack, the control block with it.
    Detached,
}

/// The payload of a carrier's control block, which lies on top of its stack.
pub struct Carrier {
    area: Area,
    clear_tid: ClearTid,
    tid: AtomicU32,
    current: AtomicPtr<Green>,
    lent: AtomicU32,
    schedule: Option<&'static dyn Schedule>,
    // The parent's mask, for the carrier to restore.
    mask: u64,
    exit: Exit,
}

impl Carrier {
    const fn new(schedule: Option<&'static dyn Schedule>, mask: u64, exit: Exit) -> Self {
        Self {
            area: Area::new(),
            clear_tid: ClearTid::new(),
            tid: AtomicU32::new(0),
            current: AtomicPtr::new(ptr::null_mut()),
            lent: AtomicU32::new(0),
            schedule,
            mask,
            exit,
        }
    }

    /// The rseq area of this kernel thread, and of no green thread.
    #[inline]
    pub fn area(&self) -> &Area {
        &self.area
    }

    /// The kernel's id of this thread; 0 on the main one, which runs no green thread.
    pub fn tid(&self) -> u32 {
        self.tid.load(Relaxed)
    }

    /// The green thread that runs on it now; null between two, and on a thread that runs none.
    #[inline]
    pub fn current(&self) -> *mut Green {
        self.current.load(Relaxed)
    }

    #[inline]
    pub(crate) fn set_current(&self, green: *mut Green) {
        self.current.store(green, Relaxed);
    }

    /// Is it lent to a closure of [`here`]?
    #[inline]
    pub(crate) fn is_lent(&self) -> bool {
        self.lent.load(Relaxed) != 0
    }
}

/// Lends the calling thread's carrier. The closure must not switch: after a switch the
/// green thread may be on another carrier, so `switch` ends the program when it is called from in here.
///
/// # Errors
/// `None` on a thread that is no carrier.
#[inline]
pub fn here<R>(look: impl FnOnce(&Carrier) -> R) -> Option<R> {
    // Read afresh each time: the thread pointer is volatile asm, so no call of it serves two.
    let head = tcb::current();
    let carrier = head.payload::<Carrier>()?;
    carrier.lent.store(carrier.lent.load(Relaxed) + 1, Relaxed);
    let answer = look(carrier);
    carrier.lent.store(carrier.lent.load(Relaxed) - 1, Relaxed);
    Some(answer)
}

/// As [`here`] without the guard against a switch: the address of the carrier, for those who want it to grow stale.
pub fn here_unguarded() -> *const Carrier {
    tcb::current()
        .payload::<Carrier>()
        .map_or(ptr::null(), ptr::from_ref)
}

/// Decides who owns rseq and gives the main thread a carrier's block, so that it can spawn and join; it runs no green thread.
///
/// # Errors
/// What `init` and the create hook say.
///
/// # Safety
/// 1. Called once in a process, on its main thread, which lives to the end of it.
pub unsafe fn adopt_main(env: &Env) -> Result<Thread<'static>, Error> {
    // SAFETY: from_auxv (1) the kernel's own vector.
    let config = unsafe { Config::from_auxv(env.auxv_ptr().cast()) }.claim(Claim::Runtime);
    RSEQ.init(config)?;
    RSEQ.allow_sections();
    let payload = Carrier::new(None, 0, Exit::Joinable);
    let Ok(block) = Tcb::outside(Stack::NONE, payload) else {
        return Err(Error::NullArea);
    };
    // SAFETY: adopt (1) mapped and never unmapped, (2) `current` is not in use here.
    unsafe { tcb::adopt(block) };
    // SAFETY: on_thread_create (1, 2) the block is this thread's for ever; (3) it stays here.
    unsafe { RSEQ.on_thread_create(&(*block).payload.area) }
}

/// A started joinable carrier.
#[must_use]
pub struct Joinable {
    block: *mut Tcb<Carrier>,
}

// SAFETY: the block is read only, and lives until join.
unsafe impl Send for Joinable {}

impl Joinable {
    /// Waits for clear-tid and unmaps the stack.
    ///
    /// # Errors
    /// `Futex` if futex(2) or munmap(2) is refused.
    pub fn join(self) -> Result<(), Error> {
        // SAFETY: the block lives until the unmap below.
        let block = unsafe { &*self.block };
        let reclaimed = block.payload.clear_tid.wait()?;
        let stack = block.head.stack();
        // SAFETY: unmap (1) the carrier's stack, joined once.
        unsafe { reclaimed.unmap(stack.base(), stack.len()) }.map_err(Error::Futex)
    }
}

/// Starts a carrier; the handle if it is a joinable one.
///
/// # Errors
/// What mmap(2) and clone(2) say.
pub fn start(schedule: &'static dyn Schedule, exit: Exit) -> Result<Option<Joinable>, Errno> {
    // What carriers that could not release have left behind.
    DEFERRED.sweep();
    let stack = Stack::map(STACK)?;
    // Around clone, so that no handler finds the new thread before its create hook.
    let mask = SignalMask::block_all().map_err(|_| Errno::PERM)?;
    let payload = Carrier::new(Some(schedule), mask.previous(), exit);
    let started = Tcb::on(stack, payload).and_then(|block| {
        // SAFETY: spawn (1) a stack that nobody else has; (2, 3) the block on top of it lives until the carrier is
        // gone; (4) `main_of_carrier` takes its own block.
        unsafe {
            let word = (*block).payload.clear_tid.as_ptr();
            let head = &raw mut (*block).head;
            spawn(block.cast(), head, word, main_of_carrier, block.cast())?;
        }
        Ok(block)
    });
    let _ = mask.restore();
    match started {
        Ok(block) => Ok((exit == Exit::Joinable).then_some(Joinable { block })),
        Err(errno) => {
            // SAFETY: no thread runs on it.
            let _ = unsafe { stack.unmap() };
            Err(errno)
        }
    }
}

unsafe extern "C" fn main_of_carrier(argument: *mut u8) -> ! {
    // SAFETY: `start` gave the thread its own block, which lives until the exit below or the join.
    let block = unsafe { &*argument.cast::<Tcb<Carrier>>() };
    let carrier = &block.payload;
    // SAFETY: (1) blocked by the parent around clone, inherited.
    let mask = unsafe { SignalMask::assume_blocked(carrier.mask) };
    // SAFETY: (1) the area is in this carrier's block; (2) join and unmap_and_exit are the only ends of its memory and
    // take their proofs; (3) it stays here.
    let thread = match unsafe { RSEQ.on_thread_create_masked(&carrier.area, &mask) } {
        Ok(thread) => thread,
        // The runtime's own fault: no thread can be made out of it.
        Err(_) => process::exit_group(120),
    };
    let _ = mask.restore();
    if let Some(schedule) = carrier.schedule {
        carrier.tid.store(process::gettid(), Relaxed);
        schedule.run(carrier, &thread);
        schedule.left();
    }
    leave(thread, block)
}

/// From here on nothing but the block and the stack is touched: who waits for `left` may be gone.
fn leave(thread: Thread<'_>, block: &Tcb<Carrier>) -> ! {
    if block.payload.exit == Exit::Joinable {
        // SAFETY: (1) nothing on this stack waits to be dropped.
        unsafe { thread.on_exit(ExitMode::Keep).into_kept().exit(0) }
    }
    let stack = block.head.stack();
    let exit = thread.on_exit(ExitMode::Release);
    let (base, length) = (stack.base(), stack.len());
    // SAFETY: (1) the stack and the block are this carrier's alone, and it has no joiner; (2) the clear-tid word is in
    // the block; (3) this runtime has no robust list; (4) nothing waits to be dropped; (5) the area is in the block, and
    // the list is swept at each start.
    unsafe { exit.unmap_and_exit(base, length, ClearTidPlace::Inside, &DEFERRED, 0) }
}
