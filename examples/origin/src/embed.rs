//! The embedding: a runtime's additions to origin's threads, in the order of a thread's life.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ffi::c_void;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU8;
use core::sync::atomic::Ordering::{AcqRel, Acquire};

use origin::thread;
use rseq_rt::{Area, Claim, Config, Error, Exit, ExitMode, Process, SignalMask};
use rustix::io::Errno;

use crate::{ledger, tls};

/// The process-wide state; this program is the runtime.
pub static RSEQ: Process = Process::new();

/// The work of a thread between its hooks.
pub type Body = fn(&Area, usize);

/// `init`, and the main thread's create hook. Constructors have run before it, unregistered: origin offers no place
/// between its own start and theirs.
///
/// # Safety
/// 1. Called once, first thing in `origin_main`, with its `envp`.
pub unsafe fn adopt_main<'a>(envp: *mut *mut u8) -> Result<&'a Area, Error> {
    let mut end = envp.cast_const();
    // SAFETY: (1): pointers, the last of them null.
    while !unsafe { end.read() }.is_null() {
        end = end.wrapping_add(1);
    }
    // SAFETY: from_auxv (1): the kernel puts the auxiliary vector after that null.
    let config = unsafe { Config::from_auxv(end.wrapping_add(1).cast()) };
    RSEQ.init(config.claim(Claim::Runtime))?;
    // SAFETY: area (1): origin runs the main thread's at-exit functions, and then the process ends.
    let area = unsafe { tls::area() };
    // SAFETY: on_thread_create (1) this thread's; (2) its memory is never unmapped; (3) it goes no further.
    let _main = unsafe { RSEQ.on_thread_create(area) }?;
    Ok(area)
}

/// The agreement of the owner of a [`Handle`] and the exiting thread. origin has a similar state, but decides after the
/// thread's last at-exit function: too late for a thread that must know whether to release.
struct Agreement(AtomicU8);

impl Agreement {
    const OPEN: u8 = 0;
    /// The thread must release: it unmaps its memory itself.
    const DETACHED: u8 = 1;
    /// The thread has exited as a joinable one.
    const KEPT: u8 = 2;

    fn settle(&self, wish: u8) -> bool {
        let outcome = self.0.compare_exchange(Self::OPEN, wish, AcqRel, Acquire);
        outcome.is_ok()
    }
}

/// A started thread.
#[must_use = "a thread is joined or detached"]
pub struct Handle {
    thread: thread::Thread,
    agreement: Arc<Agreement>,
}

/// The argument of a new thread.
struct Start {
    agreement: Arc<Agreement>,
    body: Body,
    argument: usize,
    /// The mask to restore after the create hook.
    mask: u64,
}

/// Starts a thread.
pub fn spawn(body: Body, argument: usize) -> Result<Handle, Errno> {
    let agreement = Arc::new(Agreement(AtomicU8::new(Agreement::OPEN)));
    // Around clone, since origin does not block them: no handler may run on the new thread before its create hook.
    let mask = SignalMask::block_all().map_err(|_| Errno::PERM)?;
    let start = NonNull::from(Box::leak(Box::new(Start {
        agreement: Arc::clone(&agreement),
        body,
        argument,
        mask: mask.previous(),
    })));
    let (stack, guard) = (thread::default_stack_size(), thread::default_guard_size());
    // SAFETY: `main_of_thread` takes a Start, which may move to any thread.
    let created = unsafe { thread::create(main_of_thread, &[Some(start.cast())], stack, guard) };
    // The mask could be set a moment ago, so it can be restored.
    let _ = mask.restore();
    if created.is_err() {
        // SAFETY: leaked above, and no thread has it.
        drop(unsafe { Box::from_raw(start.as_ptr()) });
    }
    created.map(|thread| Handle { thread, agreement })
}

/// # Safety
/// 1. Called by origin with the argument of [`spawn`], all signals blocked.
unsafe fn main_of_thread(arguments: &mut [Option<NonNull<c_void>>]) -> Option<NonNull<c_void>> {
    let start = (*arguments.first()?)?.cast::<Start>();
    // SAFETY: (1): leaked for this thread.
    let start = unsafe { Box::from_raw(start.as_ptr()) };
    // SAFETY: assume_blocked (1): by `spawn` around clone, inherited.
    let mask = unsafe { SignalMask::assume_blocked(start.mask) };
    // SAFETY: area (1): `leave` is the last at-exit function.
    let area = unsafe { tls::area() };
    // SAFETY: on_thread_create (1) this thread's; (2) unmapped by origin after `leave`, which keeps or releases; (3) it
    // goes no further.
    if let Err(error) = unsafe { RSEQ.on_thread_create_masked(area, &mask) }.map(drop) {
        ledger::broken(error);
    }
    // Added first, it is called last: no code of the program runs after it.
    let agreement = start.agreement;
    thread::at_exit(Box::new(move || leave(&agreement)));
    let _ = mask.restore();
    (start.body)(area, start.argument);
    None
}

/// The exit hook. origin then unmaps the memory of a detached thread, or lets the joiner do it.
fn leave(agreement: &Agreement) {
    // SAFETY: area (1): this is the last at-exit function.
    let area = unsafe { tls::area() };
    // SAFETY: current_thread (1) the area of the create hook; (2) that one's `Thread` is gone.
    let thread = match unsafe { RSEQ.current_thread(area) } {
        Ok(thread) => thread,
        Err(error) => return ledger::broken(error),
    };
    if agreement.settle(Agreement::KEPT) || cfg!(feature = "without-release") {
        let _kept = thread.on_exit(ExitMode::Keep);
        return ledger::kept();
    }
    match thread.on_exit(ExitMode::Release) {
        Exit::Released(_gone) => ledger::released(),
        // origin would unmap memory that the kernel writes to. So end here, and leave the mapping behind.
        // SAFETY: exit (1): the agreement's count is lost with the mapping.
        Exit::Kept(kept) => unsafe { kept.exit(0) },
    }
}

impl Handle {
    /// The thread's id, while it lives.
    pub fn tid(&self) -> Option<i32> {
        // SAFETY: not yet joined or detached.
        unsafe { thread::id(self.thread) }.map(|tid| tid.as_raw_nonzero().get())
    }

    /// Whether the thread has exited as a joinable one.
    pub fn has_left(&self) -> bool {
        self.agreement.0.load(Acquire) == Agreement::KEPT
    }

    /// Waits for clear-tid, and unmaps.
    pub fn join(self) {
        // SAFETY: neither joined nor detached before: `self` is consumed.
        unsafe { thread::join(self.thread) };
    }

    /// Lets the thread unmap its own memory.
    pub fn detach(self) {
        if self.agreement.settle(Agreement::DETACHED) {
            // SAFETY: as in `join`. The thread will release, or has done so.
            unsafe { thread::detach(self.thread) };
        } else {
            // It has exited without release, so its memory may be freed only after clear-tid. It is about to end.
            self.join();
        }
    }
}
