//! The registration as the kernel sees it, queried from outside after each step of a life.

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering::Relaxed};
use linux_raw_sys::general::__NR_getppid;
use rseq_rt::{Area, ClearTidPlace, ExitMode, SignalMask, Thread, arch};

use super::{STACK, owned};
use crate::errno::{Errno, errno};
use crate::harness::{Ctx, passed, skip};
use crate::hooked::{self, Hooked, RSEQ};
use crate::hooks::common::{Hooks as _, init, joined};
use crate::sys::process::{self, Status};
use crate::sys::{mm, ptrace, sched};
use crate::trace::{Event, Tracee};
use crate::{tcb, thread};

/// The expected registration of the traced thread, written before it notifies the tracer.
#[repr(C)]
struct Stated {
    /// Counted from 1.
    step: AtomicU32,
    /// Steps that the tracer has checked.
    seen: AtomicU32,
    area: AtomicUsize,
    /// 0: nothing should be registered.
    length: AtomicU32,
    /// Set by the last thread.
    done: AtomicU32,
}

static STATED: AtomicPtr<Stated> = AtomicPtr::new(core::ptr::null_mut());

fn stated() -> &'static Stated {
    // SAFETY: mapped by `agrees` and never unmapped; all zeroes is a valid value.
    unsafe { STATED.load(Relaxed).as_ref() }.unwrap()
}

/// States the calling thread's registration, and notifies the tracer by an otherwise unused call.
fn state(area: &Area, registered: bool) {
    let stated = stated();
    let at = (&raw const *area).expose_provenance();
    let length = if registered { RSEQ.length() } else { 0 };
    stated.area.store(at, Relaxed);
    stated.length.store(length, Relaxed);
    stated.step.fetch_add(1, Relaxed);
    process::getppid();
    stated.seen.fetch_add(1, Relaxed);
}

fn kept(_: &Thread<'_>, hooked: &Hooked) {
    state(&hooked.area, true);
    let kept = owned(hooked).on_exit(ExitMode::Keep).into_kept();
    // Still registered: the kernel forgets it with the task.
    state(&hooked.area, true);
    // SAFETY: exit (1) nothing waits to be dropped.
    unsafe { kept.exit(0) }
}

fn released(_: &Thread<'_>, hooked: &Hooked) {
    state(&hooked.area, true);
    let gone = hooked::release(owned(hooked)).unwrap();
    state(&hooked.area, false);
    // A late lazy call changes nothing.
    RSEQ.ensure(&hooked.area).unwrap();
    state(&hooked.area, false);
    let stack = tcb::current().stack();
    // SAFETY: unmap_and_exit (1, 2) a detached thread's stack with its block; (3) no robust list; (4) nothing waits.
    unsafe { gone.unmap_and_exit(stack.base(), stack.len(), ClearTidPlace::Inside, 0) }
}

/// Lazy, then the create hook, then a scope on the same area.
fn lazy(area: &Area) {
    state(area, false);
    RSEQ.ensure(area).unwrap();
    state(area, true);
    let thread = RSEQ.create(area).unwrap();
    let gone = hooked::release(thread).unwrap();
    state(area, false);
    // SAFETY: recycle_area (1) there is no handler.
    unsafe { gone.recycle_area() };
    let scope = RSEQ.scope(area).unwrap();
    state(area, true);
    scope.end().unwrap();
    state(area, false);
}

fn tracee() {
    // SAFETY: adopt_main (1) once, on the main thread of the traced process.
    let main = unsafe { hooked::adopt_main() }.unwrap();
    state(main.area(), true);
    thread::run(STACK, Area::new(), lazy);
    joined(STACK, kept, 0);
    let before = stated().seen.load(Relaxed);
    hooked::start_detached(STACK, released, 0).unwrap();
    // The statement belongs to one thread at a time: here to the detached one, for three steps.
    sched::wait_until(|| stated().seen.load(Relaxed) >= before + 3);
    // Its own, all the while; and with signals blocked as well.
    let mask = SignalMask::block_all().unwrap();
    state(main.area(), true);
    mask.restore().unwrap();
    stated().done.store(1, Relaxed);
}

pub(super) fn agrees(ctx: &Ctx<'_>) {
    let page = mm::map_shared(mm::whole_pages(size_of::<Stated>())).unwrap();
    STATED.store(page.cast(), Relaxed);
    let stated = stated();
    init(ctx);
    let mut steps = 0;
    let end = Tracee::watch(tracee, |_, tid, event| {
        if !matches!(event, Event::Enter { nr, .. } if nr == u64::from(__NR_getppid)) {
            return;
        }
        let known = match ptrace::rseq_configuration(tid) {
            Err(Errno(errno::EIO)) => skip!("ptrace(2) cannot ask for rseq before Linux 5.13"),
            other => other.unwrap(),
        };
        steps += 1;
        let length = stated.length.load(Relaxed);
        if length == 0 {
            // The size is 32 here, too, before Linux 6.3.
            assert_eq!(known.rseq_abi_pointer, 0, "step {steps}");
            return;
        }
        let area = stated.area.load(Relaxed) as u64;
        assert_eq!(
            (known.rseq_abi_pointer, known.rseq_abi_size, known.signature),
            (area, length, arch::SIGNATURE),
            "step {steps}"
        );
    });
    assert_eq!(end, Status::Exited(0));
    assert_eq!(stated.done.load(Relaxed), 1);
    assert_eq!(steps, stated.step.load(Relaxed), "steps seen");
    passed!("{steps} steps");
}
