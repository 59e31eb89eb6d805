//! The moment between munmap and exit, stretched by a tracer, so that incorrect use of the hooks shows every time
//! instead of once in thousands of threads.

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use linux_raw_sys::general::{__NR_getppid, __NR_munmap, SIGSEGV};
use rseq_rt::{ClearTidPlace, Thread};

use super::poison::Poison;
use super::{STACK, owned, unmap_registered, wait_for};
use crate::harness::{Ctx, passed};
use crate::hooked::{self, Body, Hooked};
use crate::hooks::common::init;
use crate::sys::mm::{self, Access};
use crate::sys::process::{self, Status};
use crate::sys::sched::{self, CpuSet};
use crate::trace::{Event, Tracee};
use crate::{tcb, witness};

/// Shared by the tracer and the traced process.
#[repr(C)]
struct Shared {
    base: AtomicUsize,
    len: AtomicUsize,
    tid: AtomicU32,
    unmapped: AtomicU32,
    // Offset and value of a stray write; CLEAN if none.
    stray: AtomicUsize,
    now: AtomicU64,
}

const CLEAN: usize = usize::MAX;

static SHARED: AtomicPtr<Shared> = AtomicPtr::new(core::ptr::null_mut());

fn shared() -> &'static Shared {
    // SAFETY: mapped by `watch` and never unmapped; all zeroes is a valid value.
    unsafe { SHARED.load(Relaxed).as_ref() }.unwrap()
}

/// Moves to the first CPU, and publishes the thread's stack.
fn prepare() {
    let first = witness::cpus().iter().next().unwrap();
    sched::allow(0, &CpuSet::one(first)).unwrap();
    let stack = tcb::current().stack();
    let shared = shared();
    shared.base.store(stack.base().expose_provenance(), Relaxed);
    shared.len.store(stack.len(), Relaxed);
    shared.tid.store(process::gettid(), Relaxed);
}

/// Releases, and states `place` for the clear-tid word, which is inside.
fn release(hooked: &Hooked, place: ClearTidPlace) {
    prepare();
    let stack = tcb::current().stack();
    let gone = hooked::release(owned(hooked)).unwrap();
    // SAFETY: unmap_and_exit (1) a detached thread's own stack; (2) violated if `place` is `Outside`: this is the
    // variant that must be seen; (3) no robust list; (4) nothing waits to be dropped.
    unsafe { gone.unmap_and_exit(stack.base(), stack.len(), place, 0) }
}

fn leave_truthful(_: &Thread<'_>, hooked: &Hooked) {
    release(hooked, ClearTidPlace::Inside);
}

fn leave_lying(_: &Thread<'_>, hooked: &Hooked) {
    release(hooked, ClearTidPlace::Outside);
}

fn leave_registered(thread: &Thread<'_>, hooked: &Hooked) {
    prepare();
    unmap_registered(thread, hooked);
}

/// The state of the addresses where the thread's memory was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Empty,
    /// Another mapping.
    Poisoned,
}

/// In the traced process: one detached thread, and poison in place of its memory after the munmap.
fn tracee(body: Body, place: Place) {
    let shared = shared();
    // The argument: the clear-tid word goes with the memory.
    hooked::start_detached(STACK, body, 1).unwrap();
    while shared.unmapped.load(Relaxed) == 0 {
        core::hint::spin_loop();
    }
    let tid = shared.tid.load(Relaxed);
    if place == Place::Empty {
        return wait_for(tid);
    }
    let len = shared.len.load(Relaxed);
    let base = core::ptr::with_exposed_provenance_mut(shared.base.load(Relaxed));
    assert_eq!(mm::map_near(base, len, Access::ReadWrite), Ok(base));
    // SAFETY: fill (1) mapped just now.
    let poison = unsafe { Poison::fill(base, len) };
    // Tells the tracer that the thread may go on.
    process::getppid();
    wait_for(tid);
    let (offset, now) = poison.stray().unwrap_or((CLEAN, 0));
    shared.now.store(now, Relaxed);
    shared.stray.store(offset, Relaxed);
}

/// Runs the exit, and moves the thread to the last CPU right after its munmap; if its `place` is to be poisoned, it
/// stops there until that is done. Returns how the process ended.
fn watch(ctx: &Ctx<'_>, body: Body, place: Place) -> (Status, &'static Shared) {
    let page = mm::map_shared(mm::whole_pages(size_of::<Shared>())).unwrap();
    SHARED.store(page.cast(), Relaxed);
    let shared = shared();
    init(ctx);
    let traced = || {
        process::no_core_dump();
        tracee(body, place);
    };
    let (mut held, mut last_call) = (None, 0);
    let end = Tracee::watch(traced, |child, tid, event| {
        let leader = tid == child.pid();
        match event {
            Event::Enter { nr, .. } if leader && nr == u64::from(__NR_getppid) => {
                if let Some(held) = held.take() {
                    child.let_go(held).unwrap();
                }
            }
            Event::Enter { nr, .. } if !leader => last_call = nr,
            Event::Leave(0) if !leader && last_call == u64::from(__NR_munmap) => {
                let last = witness::cpus().iter().last().unwrap();
                sched::allow(tid as u32, &CpuSet::one(last)).unwrap();
                if place == Place::Poisoned {
                    held = child.hold();
                }
                shared.unmapped.store(1, Relaxed);
            }
            _ => {}
        }
    });
    assert_eq!(shared.unmapped.load(Relaxed), 1, "no munmap was seen");
    (end, shared)
}

pub(super) fn dies_at_once(ctx: &Ctx<'_>) {
    let (end, _) = watch(ctx, leave_registered, Place::Empty);
    assert_eq!(end, Status::Killed(SIGSEGV as i32), "the broken variant");
}

pub(super) fn survives(ctx: &Ctx<'_>) {
    let (end, _) = watch(ctx, leave_truthful, Place::Empty);
    assert_eq!(end, Status::Exited(0), "the released thread");
}

pub(super) fn lie(ctx: &Ctx<'_>) {
    let (end, shared) = watch(ctx, leave_lying, Place::Poisoned);
    assert_eq!(end, Status::Exited(0));
    let (stray, now) = (shared.stray.load(Relaxed), shared.now.load(Relaxed));
    assert_ne!(stray, CLEAN, "the lie was not seen");
    // Four bytes of zero in poison.
    assert!(now as u32 == 0 || now >> 32 == 0, "not clear-tid: {now:#x}");
    passed!("a zero at offset {stray}");
}

pub(super) fn truth(ctx: &Ctx<'_>) {
    let (end, shared) = watch(ctx, leave_truthful, Place::Poisoned);
    assert_eq!(end, Status::Exited(0));
    let (stray, now) = (shared.stray.load(Relaxed), shared.now.load(Relaxed));
    assert_eq!(stray, CLEAN, "a stray write of {now:#x}");
}
