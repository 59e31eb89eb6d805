//! The moment between munmap and exit, stretched by a tracer: what the kernel would do there if the hooks were
//! used wrongly happens every time, and not once in some thousand threads.

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use linux_raw_sys::general::{__NR_getppid, __NR_munmap, SIGSEGV};
use rseq_rt::{ClearTidPlace, Thread};

use super::lifetime::{init, unmap_registered};
use super::lifetime_poison::Poison;
use crate::errno::Errno;
use crate::harness::{Ctx, Failed, Needs, PASSED, Test, Verdict};
use crate::hooked::{self, Body, Hooked, RSEQ};
use crate::show::Hex;
use crate::sys::mm::{self, Access};
use crate::sys::process::{self, Status};
use crate::sys::sched::{self, CpuSet};
use crate::sys::signal;
use crate::trace::{Event, Tracee};
use crate::{check, passed, tcb};

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("lifetime/unmap-while-registered-dies-at-once", dies_at_once)
        .needs(Needs::RSEQ.and(Needs::PTRACE).cpus(2)),
    Test::new("lifetime/release-survives-the-same", survives)
        .needs(Needs::RSEQ.and(Needs::PTRACE).cpus(2)),
    Test::new("lifetime/clear-tid-lie-is-a-stray-write", lie).needs(Needs::PTRACE),
    Test::new("lifetime/clear-tid-truth-is-none", truth).needs(Needs::PTRACE),
];

const STACK: usize = 16 * 1024;

/// What the tracer shares with the traced process.
#[repr(C)]
struct Shared {
    base: AtomicUsize,
    len: AtomicUsize,
    tid: AtomicU32,
    unmapped: AtomicU32,
    // The offset and the value of a stray write; CLEAN where there was none.
    stray: AtomicUsize,
    now: AtomicU64,
}

const CLEAN: usize = usize::MAX;

static SHARED: AtomicPtr<Shared> = AtomicPtr::new(core::ptr::null_mut());

impl Shared {
    fn wait_for_thread(&self) -> Result<(), Errno> {
        loop {
            match signal::kill_thread(self.tid.load(Relaxed), 0) {
                Ok(()) => sched::relax(),
                Err(Errno::SRCH) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
    }
}

fn shared() -> Option<&'static Shared> {
    // SAFETY: null, or mapped by `watch` and never unmapped; all zeroes is a value of it.
    unsafe { SHARED.load(Relaxed).as_ref() }
}

/// Says where the thread stands, on the first CPU allowed, and goes on with `body`.
fn leave_from_first_cpu(body: Body, thread: &Thread<'_>, hooked: &Hooked) {
    let (Some(shared), Ok(cpus)) = (shared(), sched::allowed()) else {
        return;
    };
    if let Some(first) = cpus.iter().next() {
        let _ = sched::allow(0, &CpuSet::one(first));
    }
    let stack = tcb::current().stack();
    shared.base.store(stack.base().expose_provenance(), Relaxed);
    shared.len.store(stack.len(), Relaxed);
    shared.tid.store(process::gettid(), Relaxed);
    body(thread, hooked);
}

/// Releases, and says what it likes about the clear-tid word, which is inside.
fn release_and_say(hooked: &Hooked, place: ClearTidPlace) {
    let stack = tcb::current().stack();
    // SAFETY: current_thread (1) its own area, (2) the other one is not used after this.
    let thread = unsafe { RSEQ.current_thread(&hooked.area) };
    let Some(gone) = thread.ok().and_then(|thread| hooked::release(thread).ok()) else {
        process::exit_group(3)
    };
    // SAFETY: unmap_and_exit (1) a detached thread's own stack; (2) not if `place` is `Outside`: this is the variant
    // that must be seen; (3) no robust list; (4) nothing waits to be dropped.
    unsafe { gone.unmap_and_exit(stack.base(), stack.len(), place, 0) }
}

fn leave_truthful(thread: &Thread<'_>, hooked: &Hooked) {
    leave_from_first_cpu(
        |_, hooked| release_and_say(hooked, ClearTidPlace::Inside),
        thread,
        hooked,
    );
}

fn leave_lying(thread: &Thread<'_>, hooked: &Hooked) {
    leave_from_first_cpu(
        |_, hooked| release_and_say(hooked, ClearTidPlace::Outside),
        thread,
        hooked,
    );
}

fn leave_registered(thread: &Thread<'_>, hooked: &Hooked) {
    leave_from_first_cpu(unmap_registered, thread, hooked);
}

/// What the thread finds where its memory was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing.
    Empty,
    /// Somebody else's mapping.
    Poisoned,
}

/// In the traced process: one detached thread, and poison in its place once it stands without memory.
fn tracee(body: Body, place: Place) -> Result<(), Errno> {
    let shared = shared().ok_or(Errno::FAULT)?;
    // The argument: the clear-tid word goes with the memory.
    hooked::start_detached(STACK, body, 1)?;
    while shared.unmapped.load(Relaxed) == 0 {
        core::hint::spin_loop();
    }
    if place == Place::Empty {
        return shared.wait_for_thread();
    }
    let len = shared.len.load(Relaxed);
    let base = core::ptr::with_exposed_provenance_mut(shared.base.load(Relaxed));
    if mm::map_near(base, len, Access::ReadWrite)? != base {
        return Err(Errno::NOMEM);
    }
    // SAFETY: fill (1) mapped just now.
    let poison = unsafe { Poison::fill(base, len) };
    // The tracer's sign that the thread may go on.
    process::getppid();
    shared.wait_for_thread()?;
    let (offset, now) = poison.stray().unwrap_or((CLEAN, 0));
    shared.now.store(now, Relaxed);
    shared.stray.store(offset, Relaxed);
    Ok(())
}

/// Runs the exit, and moves the thread to the last CPU right after its munmap; if its `place` is to be poisoned, it
/// stands there until that is done. How the process ended.
fn watch(
    ctx: &Ctx<'_>,
    body: Body,
    place: Place,
) -> Result<(Option<Status>, &'static Shared), Failed> {
    let page = mm::map_shared(mm::whole_pages(size_of::<Shared>()))?;
    SHARED.store(page.cast(), Relaxed);
    let shared = shared().ok_or(Errno::FAULT)?;
    let cpus = sched::allowed()?;
    init(ctx)?;
    let mut child = Tracee::start(|| {
        process::no_core_dump();
        process::exit_group(if tracee(body, place).is_ok() { 0 } else { 2 });
    })?;
    let (mut held, mut last_call, mut end) = (None, 0, None);
    while let Some((tid, event)) = child.next_event()? {
        let leader = tid == child.pid();
        match event {
            Event::Enter { nr, .. } if leader && nr == u64::from(__NR_getppid) => {
                if let Some(held) = held.take() {
                    child.let_go(held)?;
                }
            }
            Event::Enter { nr, .. } if !leader => last_call = nr,
            Event::Leave(0) if !leader && last_call == u64::from(__NR_munmap) => {
                if let Some(last) = cpus.iter().last() {
                    sched::allow(tid as u32, &CpuSet::one(last))?;
                }
                if place == Place::Poisoned {
                    held = child.hold();
                }
                shared.unmapped.store(1, Relaxed);
            }
            Event::Gone(status) if leader => end = Some(status),
            _ => {}
        }
    }
    check!(
        shared.unmapped.load(Relaxed) == 1,
        "the thread was not seen to unmap its stack"
    );
    Ok((end, shared))
}

fn dies_at_once(ctx: &Ctx<'_>) -> Verdict {
    let (end, _) = watch(ctx, leave_registered, Place::Empty)?;
    let end = end.unwrap_or(Status::Exited(0));
    check!(
        end == Status::Killed(SIGSEGV as i32),
        "the broken variant was to be killed by SIGSEGV and ",
        end
    );
    PASSED
}

fn survives(ctx: &Ctx<'_>) -> Verdict {
    let (end, _) = watch(ctx, leave_truthful, Place::Empty)?;
    check!(
        end == Some(Status::Exited(0)),
        "the released thread did not survive"
    );
    PASSED
}

fn lie(ctx: &Ctx<'_>) -> Verdict {
    let (end, shared) = watch(ctx, leave_lying, Place::Poisoned)?;
    check!(end == Some(Status::Exited(0)), "the traced process died");
    let (stray, now) = (shared.stray.load(Relaxed), shared.now.load(Relaxed));
    check!(stray != CLEAN, "the lie was not seen");
    // Four bytes of zero in poison.
    check!(
        now as u32 == 0 || now >> 32 == 0,
        "not clear-tid, but ",
        Hex(now)
    );
    passed!("a zero at offset ", stray)
}

fn truth(ctx: &Ctx<'_>) -> Verdict {
    let (end, shared) = watch(ctx, leave_truthful, Place::Poisoned)?;
    check!(end == Some(Status::Exited(0)), "the traced process died");
    let (stray, now) = (shared.stray.load(Relaxed), shared.now.load(Relaxed));
    check!(stray == CLEAN, Hex(now), " at offset ", stray);
    PASSED
}
