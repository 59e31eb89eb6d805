//! The registration as the kernel knows it, asked from outside after each step of a life.

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering::Relaxed};
use linux_raw_sys::general::__NR_getppid;
use rseq_rt::{Area, ClearTidPlace, ExitMode, SignalMask, Thread, arch};

use super::lifetime::init;
use crate::errno::Errno;
use crate::harness::{Ctx, Needs, Test, Verdict};
use crate::hooked::{self, Hooked, RSEQ};
use crate::show::Hex;
use crate::sys::process::{self, Status};
use crate::sys::{mm, ptrace, sched};
use crate::trace::{Event, Tracee};
use crate::{check, passed, skip, tcb, thread};

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("lifetime/kernel-knows-what-the-state-says", agrees)
        .needs(Needs::RSEQ.and(Needs::PTRACE)),
];

const STACK: usize = 16 * 1024;

/// What the traced thread says of itself before it calls the tracer's attention.
#[repr(C)]
struct Said {
    /// The step, from 1.
    step: AtomicU32,
    /// Steps whose call has returned: the tracer has looked.
    seen: AtomicU32,
    area: AtomicUsize,
    /// 0: nothing is to be registered.
    length: AtomicU32,
    /// Set by the last thread.
    done: AtomicU32,
}

static SAID: AtomicPtr<Said> = AtomicPtr::new(core::ptr::null_mut());

fn said() -> Option<&'static Said> {
    // SAFETY: null, or mapped by `agrees` and never unmapped; all zeroes is a value of it.
    unsafe { SAID.load(Relaxed).as_ref() }
}

/// The calling thread's registration is to be this, now.
fn say(area: &Area, registered: bool) {
    if let Some(said) = said() {
        let at = (&raw const *area).expose_provenance();
        said.area.store(at, Relaxed);
        said.length
            .store(if registered { RSEQ.length() } else { 0 }, Relaxed);
        said.step.fetch_add(1, Relaxed);
        process::getppid();
        said.seen.fetch_add(1, Relaxed);
    }
}

/// The calling thread's own value once more, for an exit by hand.
fn owned<'a>(hooked: &'a Hooked) -> Thread<'a> {
    // SAFETY: current_thread (1) its own area, (2) the other one is not used after this.
    match unsafe { RSEQ.current_thread(&hooked.area) } {
        Ok(thread) => thread,
        Err(_) => process::exit_group(3),
    }
}

fn kept(_: &Thread<'_>, hooked: &Hooked) {
    say(&hooked.area, true);
    let kept = owned(hooked).on_exit(ExitMode::Keep).into_kept();
    // Still there: the kernel forgets it with the task.
    say(&hooked.area, true);
    // SAFETY: exit (1) nothing waits to be dropped.
    unsafe { kept.exit(0) }
}

fn released(_: &Thread<'_>, hooked: &Hooked) {
    say(&hooked.area, true);
    let Ok(gone) = hooked::release(owned(hooked)) else {
        process::exit_group(4)
    };
    say(&hooked.area, false);
    // A late lazy call changes nothing.
    // SAFETY: ensure_registered (1, 2) its own area, in its own block.
    let _ = unsafe { RSEQ.ensure_registered(&hooked.area) };
    say(&hooked.area, false);
    let stack = tcb::current().stack();
    // SAFETY: unmap_and_exit (1, 2) a detached thread's stack with its block; (3) no robust list; (4) nothing waits.
    unsafe { gone.unmap_and_exit(stack.base(), stack.len(), ClearTidPlace::Inside, 0) }
}

/// Lazy, then the create hook, then a scope on the same area.
fn lazy(area: &Area) {
    say(area, false);
    // SAFETY: ensure_registered (1, 2) in a joinable thread's block; likewise the next two.
    let _ = unsafe { RSEQ.ensure_registered(area) };
    say(area, true);
    // SAFETY: on_thread_create (1, 2, 3) as above.
    let Some(gone) = unsafe { RSEQ.on_thread_create(area) }
        .ok()
        .and_then(|thread| hooked::release(thread).ok())
    else {
        process::exit_group(5)
    };
    say(area, false);
    // SAFETY: recycle_area (1) no handler is there.
    unsafe { gone.recycle_area() };
    // SAFETY: scoped (1, 2, 3) as above.
    let Ok(scope) = (unsafe { RSEQ.scoped(area) }) else {
        process::exit_group(6)
    };
    say(area, true);
    let _ = scope.end();
    say(area, false);
}

fn tracee() -> Result<(), Errno> {
    // SAFETY: adopt_main (1) once, on the main thread of the traced process.
    let Ok(main) = (unsafe { hooked::adopt_main() }) else {
        return Err(Errno::INVAL);
    };
    say(main.area(), true);
    thread::start(STACK, Area::new(), lazy)?.join()?;
    let _ = hooked::start_joinable(STACK, kept, 0)?.join();
    let before = said().map_or(0, |said| said.seen.load(Relaxed));
    hooked::start_detached(STACK, released, 0)?;
    // Until the third is over: what is said belongs to one thread at a time.
    while said().is_some_and(|said| said.seen.load(Relaxed) < before + 3) {
        sched::relax();
    }
    // Its own, all the while; and with signals blocked as well.
    let mask = SignalMask::block_all().map_err(|_| Errno::PERM)?;
    say(main.area(), true);
    let _ = mask.restore();
    if let Some(said) = said() {
        said.done.store(1, Relaxed);
    }
    Ok(())
}

fn agrees(ctx: &Ctx<'_>) -> Verdict {
    let page = mm::map_shared(mm::whole_pages(size_of::<Said>()))?;
    SAID.store(page.cast(), Relaxed);
    let said = said().ok_or(Errno::FAULT)?;
    init(ctx)?;
    let mut child = Tracee::start(|| {
        process::exit_group(if tracee().is_ok() { 0 } else { 2 });
    })?;
    let (mut steps, mut end) = (0, None);
    while let Some((tid, event)) = child.next_event()? {
        match event {
            Event::Enter { nr, .. } if nr == u64::from(__NR_getppid) => {
                let known = match ptrace::rseq_configuration(tid) {
                    Err(Errno(5)) => {
                        return skip!("ptrace(2) cannot ask for rseq before Linux 5.13");
                    }
                    other => other?,
                };
                steps += 1;
                let step = said.step.load(Relaxed);
                let length = said.length.load(Relaxed);
                let area = match length {
                    0 => 0,
                    _ => said.area.load(Relaxed) as u64,
                };
                check!(
                    known.rseq_abi_pointer == area
                        // Before Linux 6.3 it is 32 for nothing at all, too.
                        && (length == 0 || known.rseq_abi_size == length),
                    "step ",
                    step,
                    ": the kernel knows ",
                    Hex(known.rseq_abi_pointer),
                    " with length ",
                    known.rseq_abi_size,
                    ", not ",
                    Hex(area),
                    " with ",
                    length
                );
                check!(
                    length == 0 || known.signature == arch::SIGNATURE,
                    "step ",
                    step,
                    ": the signature is ",
                    Hex(u64::from(known.signature))
                );
            }
            Event::Gone(status) if tid == child.pid() => end = Some(status),
            _ => {}
        }
    }
    check!(end == Some(Status::Exited(0)), "the traced process failed");
    check!(
        said.done.load(Relaxed) == 1 && steps == said.step.load(Relaxed),
        "not all steps were seen"
    );
    passed!(steps, " steps")
}
