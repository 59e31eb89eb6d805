//! Carriers: kernel threads that run green threads, and start and end through the hooks.

use core::ptr;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicPtr, AtomicU32};

use alloc::boxed::Box;

use rseq_rt::{
    Area, Claim, ClearTid, ClearTidPlace, Config, Deferred, Error, ExitMode, Process, SignalMask,
    Thread,
};
use rustix::io::Errno;

use crate::arch;
use crate::green::Green;
use crate::stacks::Stack;
use crate::sys::{CLONE_FLAGS, exit_group};

/// The process-wide state of rseq.
pub static RSEQ: Process = Process::new();
/// The memory of detached carriers that were kept. Each start sweeps it.
static DEFERRED: Deferred = Deferred::new();

/// The work of a carrier between its hooks.
pub trait Schedule: Sync {
    /// Runs green threads until the carrier must leave.
    fn run(&self, carrier: &Carrier, thread: &Thread<'_>);
    /// The last use of memory that is not its own by a detached carrier.
    fn left(&self);
}

/// The exit mode of a carrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Keep: the holder of the [`Joinable`] unmaps the stack after clear-tid.
    Joinable,
    /// Release: the carrier unmaps its own stack, the control block with it.
    Detached,
}

/// A carrier's control block, the target of its thread pointer. It lies on top of the carrier's own stack, on which the
/// scheduler runs; green threads have their own stacks.
#[repr(C)]
pub struct Carrier {
    // First: x86_64 reads the thread pointer from here.
    this: *const Carrier,
    stack: Stack,
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
    /// Writes a new block.
    ///
    /// # Safety
    /// 1. `at` is aligned and writable for it, and nobody else's.
    unsafe fn write(
        at: *mut Self,
        stack: Stack,
        schedule: Option<&'static dyn Schedule>,
        mask: u64,
        exit: Exit,
    ) {
        let carrier = Self {
            this: at,
            stack,
            area: Area::new(),
            clear_tid: ClearTid::new(),
            tid: AtomicU32::new(0),
            current: AtomicPtr::new(ptr::null_mut()),
            lent: AtomicU32::new(0),
            schedule,
            mask,
            exit,
        };
        // SAFETY: (1).
        unsafe { at.write(carrier) };
    }

    /// The rseq area of this kernel thread. Green threads have none.
    #[inline]
    pub fn area(&self) -> &Area {
        &self.area
    }

    /// The kernel's id of this thread; 0 on the main one, which runs no green thread.
    pub fn tid(&self) -> u32 {
        self.tid.load(Relaxed)
    }

    /// The green thread that runs on it now; null in the scheduler, and on a thread that runs none.
    #[inline]
    pub fn current(&self) -> *mut Green {
        self.current.load(Relaxed)
    }

    #[inline]
    pub(crate) fn set_current(&self, green: *mut Green) {
        self.current.store(green, Relaxed);
    }

    /// Whether it is lent to a closure of [`here`].
    #[inline]
    pub(crate) fn is_lent(&self) -> bool {
        self.lent.load(Relaxed) != 0
    }
}

/// Lends the calling thread's carrier. The closure must not switch: after a switch the
/// green thread may be on another carrier, so `switch` ends the program when it is called from in here.
#[inline]
pub fn here<R>(look: impl FnOnce(&Carrier) -> R) -> R {
    // Read each time: the thread pointer is volatile asm, so the compiler does not merge two calls.
    // SAFETY: the calling thread's own carrier, which outlives the closure.
    let carrier = unsafe { &*here_unguarded() };
    carrier.lent.store(carrier.lent.load(Relaxed) + 1, Relaxed);
    let answer = look(carrier);
    carrier.lent.store(carrier.lent.load(Relaxed) - 1, Relaxed);
    answer
}

/// The carrier's address, without [`here`]'s guard against a switch, for tests of a stale one.
#[inline]
pub fn here_unguarded() -> *const Carrier {
    // SAFETY: thread_pointer (1): adopt_main (2).
    unsafe { arch::thread_pointer() }
}

/// Determines the owner of rseq and gives the main thread a carrier's block, so that it can spawn and join. It runs no
/// green thread.
///
/// # Errors
/// Those of `init` and the create hook.
///
/// # Safety
/// 1. Called once in a process, on its main thread, which lives to the end of it.
/// 2. Nothing else of this crate was called before, nor is called on threads other than this one and those of [`start`].
/// 3. `auxv` is the kernel's vector.
/// 4. Nothing on the main thread uses the thread pointer from here on.
pub unsafe fn adopt_main(auxv: *const [usize; 2]) -> Result<Thread<'static>, Error> {
    // SAFETY: from_auxv (1): (3).
    let config = unsafe { Config::from_auxv(auxv) }.claim(Claim::Runtime);
    RSEQ.init(config)?;
    RSEQ.allow_sections();
    let carrier = Box::leak(Box::<Carrier>::new_uninit()).as_mut_ptr();
    // SAFETY: write (1): new memory. set_thread_pointer (1): written, and leaked; (2): (4). on_thread_create (1, 2) the
    // block is this thread's for ever; (3) it stays here.
    unsafe {
        Carrier::write(carrier, Stack::NONE, None, 0, Exit::Joinable);
        arch::set_thread_pointer(carrier);
        RSEQ.on_thread_create(&(*carrier).area)
    }
}

/// A started joinable carrier.
#[must_use]
pub struct Joinable {
    carrier: *const Carrier,
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
        let carrier = unsafe { &*self.carrier };
        let reclaimed = carrier.clear_tid.wait()?;
        let base = carrier.stack.base();
        // SAFETY: unmap (1) the carrier's stack, joined once.
        unsafe { reclaimed.unmap(base, Stack::LENGTH) }.map_err(Error::Futex)
    }
}

/// Starts a carrier; the handle if it is a joinable one.
///
/// # Errors
/// Those of mmap(2) and clone(2).
pub fn start(schedule: &'static dyn Schedule, exit: Exit) -> Result<Option<Joinable>, Errno> {
    // The memory of carriers that could not release.
    DEFERRED.sweep();
    let stack = Stack::map()?;
    // Around clone, so that no handler runs on the new thread before its create hook.
    let mask = SignalMask::block_all().map_err(|_| Errno::PERM)?;
    let carrier = stack.room_on_top::<Carrier>();
    // SAFETY: write (1): a stack that nobody else has. clone (1): likewise; (2, 3): the block on top of it lives until
    // the carrier is gone, and its address is its first word.
    let answer = unsafe {
        Carrier::write(carrier, stack, Some(schedule), mask.previous(), exit);
        let clear_tid = (*carrier).clear_tid.as_ptr();
        arch::clone(CLONE_FLAGS, carrier.cast(), carrier, clear_tid)
    };
    let _ = mask.restore();
    if answer < 0 {
        // SAFETY: unmap (1): no thread runs on it.
        unsafe { stack.unmap() };
        return Err(Errno::from_raw_os_error(-answer as i32));
    }
    Ok((exit == Exit::Joinable).then_some(Joinable { carrier }))
}

/// The first function of a carrier.
///
/// # Safety
/// 1. Called by [`arch::clone`] alone, with signals blocked.
pub(crate) unsafe extern "C" fn main_of_carrier() -> ! {
    // SAFETY: `start` gave the thread its own block, which lives until the exit below or the join.
    let carrier = unsafe { &*here_unguarded() };
    // SAFETY: (1) blocked by the parent around clone, inherited.
    let mask = unsafe { SignalMask::assume_blocked(carrier.mask) };
    // SAFETY: (1) the area is in this carrier's block; (2) join and unmap_and_exit are the only ends of its memory and
    // take their proofs; (3) it stays here.
    let thread = match unsafe { RSEQ.on_thread_create_masked(&carrier.area, &mask) } {
        Ok(thread) => thread,
        // A bug of the runtime: this cannot become a carrier.
        Err(_) => exit_group(120),
    };
    let _ = mask.restore();
    if let Some(schedule) = carrier.schedule {
        let tid = rustix::thread::gettid().as_raw_pid();
        carrier.tid.store(tid as u32, Relaxed);
        schedule.run(carrier, &thread);
        schedule.left();
    }
    leave(thread, carrier)
}

/// From here on only the block and the stack are touched: the runtime that waits for `left` may be gone.
fn leave(thread: Thread<'_>, carrier: &Carrier) -> ! {
    if carrier.exit == Exit::Joinable {
        // SAFETY: (1) nothing on this stack waits to be dropped.
        unsafe { thread.on_exit(ExitMode::Keep).into_kept().exit(0) }
    }
    let base = carrier.stack.base();
    let exit = thread.on_exit(ExitMode::Release);
    // SAFETY: (1) the stack and the block are this carrier's alone, and it has no joiner; (2) the clear-tid word is in
    // the block; (3) this runtime has no robust list; (4) nothing waits to be dropped; (5) the area is in the block, and
    // the list is swept at each start.
    unsafe { exit.unmap_and_exit(base, Stack::LENGTH, ClearTidPlace::Inside, &DEFERRED, 0) }
}
