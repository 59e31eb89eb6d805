//! A complete runtime on the hooks, as sketched in the README.
//!
//! Each thread has its rseq area, its at-exit callbacks and its clear-tid word in its control block, which lies on top
//! of the stack:
//!
//! ```text
//! joinable:  [guard | stack | block]            the joiner waits for clear-tid, then unmaps
//! detached:  [guard | stack | block]            the thread releases, then unmaps itself; if it is kept, a later one does
//! watched:   [guard | stack | block]  [word]    detached, and clear-tid outlives the mapping
//! ```

use core::ptr;

use rseq_rt::{
    Area, AtExit, ClearTid, ClearTidPlace, Config, Deferred, Error, ExitMode, Gone, Kernel,
    Process, Reclaimed, SignalMask, Thread,
};

use crate::entry::Env;
use crate::errno::Errno;
use crate::stack::Stack;
use crate::tcb::{self, Tcb};
use crate::thread::spawn;

pub static RSEQ: Process = Process::new();
/// The memory of kept detached threads. Each start sweeps it.
pub static DEFERRED: Deferred = Deferred::new();

/// The configuration from auxv, owned by this runtime: there is no libc.
pub fn config(env: &Env) -> Config {
    // SAFETY: (1) the kernel's own vector.
    unsafe { Config::from_auxv(env.auxv_ptr().cast()) }.claim(rseq_rt::Claim::Runtime)
}

/// A thread's code between its hooks.
pub type Body = fn(&Thread<'_>, &Hooked);

/// The payload of each thread's control block.
pub struct Hooked {
    /// The rseq area and the thread's state.
    pub area: Area,
    /// Called before the exit hook.
    pub at_exit: AtExit<8>,
    /// Zeroed by the kernel at the end of a joinable thread.
    pub clear_tid: ClearTid,
    pub argument: usize,
    body: Body,
    // The parent's mask, for the child to restore exactly.
    mask: u64,
    exit: Exit,
}

// SAFETY: only its own thread uses `at_exit`; the rest is atomic or constant.
unsafe impl Sync for Hooked {}
// SAFETY: it moves between threads once, from the parent, while `at_exit` is empty.
unsafe impl Send for Hooked {}

/// The exit of a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Keep: the joiner reclaims.
    Joinable,
    /// Release: the thread unmaps its stack, together with the block and its clear-tid word.
    Detached,
    /// Release, with a clear-tid word outside of the mapping.
    Watched,
}

impl Hooked {
    /// A block's payload for a thread that will run `body`.
    pub const fn new(body: Body, argument: usize, mask: u64, exit: Exit) -> Self {
        Self {
            area: Area::new(),
            at_exit: AtExit::new(),
            clear_tid: ClearTid::new(),
            argument,
            body,
            mask,
            exit,
        }
    }
}

/// The calling thread's payload; async-signal-safe. `None` on a thread without one.
pub fn here() -> Option<&'static Hooked> {
    let current = tcb::current();
    // SAFETY: the block lives as long as the calling thread.
    unsafe { ptr::from_ref(current.payload::<Hooked>()?).as_ref() }
}

/// Gives the main thread a block and runs its create hook, after `init`.
///
/// # Safety
/// 1. Called once in a process, on its main thread, which lives to the end of it.
pub unsafe fn adopt_main() -> Result<Thread<'static>, Error> {
    fn nothing(_: &Thread<'_>, _: &Hooked) {}
    let payload = Hooked::new(nothing, 0, 0, Exit::Joinable);
    let Ok(block) = Tcb::outside(Stack::NONE, payload) else {
        return Err(Error::NullArea);
    };
    // SAFETY: adopt (1) mapped and never unmapped, (2) `current` is not in use here.
    unsafe { tcb::adopt(block) };
    // SAFETY: on_thread_create (1, 2) the block is this thread's for ever; (3) it stays here.
    unsafe { RSEQ.on_thread_create(&(*block).payload.area) }
}

/// A started joinable thread. Only [`Joinable::join`] frees its memory.
#[must_use]
pub struct Joinable {
    block: *mut Tcb<Hooked>,
}

/// Starts a thread that keeps its registration to the end.
pub fn start_joinable(size: usize, body: Body, argument: usize) -> Result<Joinable, Errno> {
    start_joinable_on(Stack::map(size)?, body, argument)
}

/// As [`start_joinable`], on an existing stack.
pub fn start_joinable_on(stack: Stack, body: Body, argument: usize) -> Result<Joinable, Errno> {
    let block = start(stack, body, argument, Exit::Joinable, None)?;
    Ok(Joinable { block })
}

/// Starts a thread that unmaps its own stack.
pub fn start_detached(size: usize, body: Body, argument: usize) -> Result<(), Errno> {
    start_detached_on(Stack::map(size)?, body, argument)
}

/// As [`start_detached`], on a stack that is already there.
pub fn start_detached_on(stack: Stack, body: Body, argument: usize) -> Result<(), Errno> {
    start(stack, body, argument, Exit::Detached, None).map(drop)
}

/// As [`start_detached`], on `stack`, with a clear-tid word outside of it.
pub fn start_watched(
    stack: Stack,
    body: Body,
    argument: usize,
    clear_tid: &'static ClearTid,
) -> Result<(), Errno> {
    start(stack, body, argument, Exit::Watched, Some(clear_tid)).map(drop)
}

fn start(
    stack: Stack,
    body: Body,
    argument: usize,
    exit: Exit,
    clear_tid: Option<&'static ClearTid>,
) -> Result<*mut Tcb<Hooked>, Errno> {
    DEFERRED.sweep();
    // Around clone, so that no handler runs on the new thread before its create hook.
    let mask = SignalMask::block_all().map_err(|_| Errno::PERM)?;
    let started =
        Tcb::on(stack, Hooked::new(body, argument, mask.previous(), exit)).and_then(|block| {
            // SAFETY: spawn (1) an unused stack; (2, 3) the block lies on top of it, and a watched word is static: both
            // live until the thread is gone; (4) `main_of_thread` takes its own block.
            unsafe {
                let word = clear_tid.unwrap_or(&(*block).payload.clear_tid).as_ptr();
                let head = &raw mut (*block).head;
                spawn(block.cast(), head, word, main_of_thread, block.cast())?;
            }
            Ok(block)
        });
    let _ = mask.restore();
    if started.is_err() {
        // SAFETY: no thread runs on it.
        let _ = unsafe { stack.unmap() };
    }
    started
}

unsafe extern "C" fn main_of_thread(argument: *mut u8) -> ! {
    // SAFETY: `start` gave the thread its own block, which lives until the exit below or the join.
    let block = unsafe { &*argument.cast::<Tcb<Hooked>>() };
    let hooked = &block.payload;
    // SAFETY: (1) blocked by the parent around clone, inherited.
    let mask = unsafe { SignalMask::assume_blocked(hooked.mask) };
    // SAFETY: (1) the area is in this thread's block; (2) join and unmap_and_exit are the only ends of its memory and
    // take their proofs; (3) it stays here.
    let thread = match unsafe { RSEQ.on_thread_create_masked(&hooked.area, &mask) } {
        Ok(thread) => thread,
        // The runtime's own error: the thread cannot run.
        Err(_) => crate::sys::process::exit_group(120),
    };
    let _ = mask.restore();
    (hooked.body)(&thread, hooked);
    thread.run_at_exit(&hooked.at_exit);
    leave(thread, block)
}

/// The exit path, also for a body that exits in the middle.
fn leave(thread: Thread<'_>, block: &Tcb<Hooked>) -> ! {
    let place = match block.payload.exit {
        Exit::Joinable => {
            // SAFETY: (1) nothing on this stack waits to be dropped.
            unsafe { thread.on_exit(ExitMode::Keep).into_kept().exit(0) }
        }
        Exit::Detached => ClearTidPlace::Inside,
        Exit::Watched => ClearTidPlace::Outside,
    };
    let stack = block.head.stack();
    let exit = thread.on_exit(ExitMode::Release);
    // SAFETY: (1) the stack and the block are this thread's only, and a detached thread has no joiner; (2) `exit` says
    // where the word is; (3) this runtime has no robust list; (4) nothing waits to be dropped; (5) the block goes with
    // the stack, and each start sweeps the list.
    unsafe { exit.unmap_and_exit(stack.base(), stack.len(), place, &DEFERRED, 0) }
}

/// The exit hook, for a test that checks its result: the proof, or the reason to keep the memory.
pub fn release<K: Kernel>(thread: Thread<'_, K>) -> Result<Gone<'_>, Option<Error>> {
    granted(thread.on_exit(ExitMode::Release))
}

/// As [`release`], with signals already blocked.
pub fn release_masked<'a, K: Kernel>(
    thread: Thread<'a, K>,
    mask: &SignalMask,
) -> Result<Gone<'a>, Option<Error>> {
    granted(thread.on_exit_masked(ExitMode::Release, mask))
}

fn granted(exit: rseq_rt::Exit<'_>) -> Result<Gone<'_>, Option<Error>> {
    match exit {
        rseq_rt::Exit::Released(gone) => Ok(gone),
        rseq_rt::Exit::Kept(kept) => Err(kept.why()),
    }
}

impl Joinable {
    pub fn hooked(&self) -> &Hooked {
        // SAFETY: the block lives until join.
        unsafe { &(*self.block).payload }
    }

    pub fn tid(&self) -> u32 {
        // SAFETY: the block lives until join.
        let head = unsafe { &(*self.block).head };
        head.tid.load(core::sync::atomic::Ordering::Relaxed)
    }

    /// Waits for clear-tid. Returns the stack, and the proof that it is free.
    pub fn join_keeping_stack(self) -> Result<(Stack, Reclaimed), Error> {
        // SAFETY: the block lives until the caller, holding the proof, unmaps the stack.
        let block = unsafe { &*self.block };
        let reclaimed = block.payload.clear_tid.wait()?;
        Ok((block.head.stack(), reclaimed))
    }

    /// In a fork child: the stack of this thread of the parent, and the proof that it is free. Its clear-tid word never
    /// changes from the copied value.
    ///
    /// # Safety
    /// 1. The calling process is a fork child, and the thread is one of the parent's other than the one that forked.
    pub unsafe fn reclaim_in_fork_child(&self) -> (Stack, Reclaimed) {
        // SAFETY: the block was copied too; in_fork_child (1) is (1).
        unsafe { ((*self.block).head.stack(), Reclaimed::in_fork_child()) }
    }

    /// Waits for clear-tid and unmaps the stack.
    pub fn join(self) -> Result<(), Error> {
        let (stack, reclaimed) = self.join_keeping_stack()?;
        // SAFETY: unmap (1) the thread's stack, joined once.
        unsafe { reclaimed.unmap(stack.base(), stack.len()) }.map_err(Error::Futex)
    }
}
