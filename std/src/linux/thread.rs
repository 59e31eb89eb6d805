//! The calling thread: whether it may run sections, and its registration where the libc has made none.
//!
//! # The order of a thread's life
//! A thread is entered at its first use, and leaves by the destructor of a thread-local. What comes after that
//! (destructors that run later, of thread-specific data too) finds [`Stage::Left`], and goes by atomics: a registration
//! that was made there would never be ended.
//!
//! The area that the kernel writes to is not in the thread's own memory, which musl unmaps on the thread itself, but on the
//! heap, and freed once the kernel has let go. So a thread whose destructor does not run (its first use was in the last
//! round of destructors of thread-specific data), or whose release a filter refuses, loses 128 bytes and not its life.

use std::cell::Cell;
use std::ptr::NonNull;

use rseq_rt::percpu::{Current, SectionSupport};
use rseq_rt::{Area, Config, Exit, ExitMode, Owner, Process, SignalMask, State};

use super::broken;
use crate::hooks::Support;
use crate::lazy::{place, remove};

static RSEQ: Process = Process::new();

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not used yet.
    New,
    /// Its state is known.
    Entered,
    /// It ends, and is not entered again.
    Left,
}

struct Local {
    /// What operations go by. `Current` says that it is not kept: this one is kept by the kernel thread that it is of,
    /// which fetches it anew for each operation, and forgets it before its registration ends.
    here: Cell<Option<Current<'static>>>,
    stage: Cell<Stage>,
    /// The area that was offered to the kernel.
    own: Cell<Option<NonNull<Area>>>,
}

thread_local! {
    // Without destructors, and so there to the very end.
    static LOCAL: Local = const {
        Local {
            here: Cell::new(None),
            stage: Cell::new(Stage::New),
            own: Cell::new(None),
        }
    };
    // Where the libc owns: what its area is found through. The kernel never hears of it.
    static VIEW: Area = const { Area::new() };
    static LEAVE: Leave = const { Leave };
}

struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        stop();
    }
}

/// The calling thread as one that may run sections.
///
/// # Safety
/// 1. It is used at once: not kept, and no fiber is switched before its last use. The caller is not inlined into code
///    that switches fibers.
#[inline(always)]
pub(super) unsafe fn sections() -> Option<Current<'static>> {
    LOCAL.with(|local| local.here.get().or_else(|| enter(local)))
}

#[cold]
#[inline(never)]
fn enter(local: &Local) -> Option<Current<'static>> {
    if local.stage.get() != Stage::New {
        return local.here.get();
    }
    if RSEQ.owner().is_none() {
        // Once it was done, an error that changes nothing.
        let _ = RSEQ.init(config());
    }
    RSEQ.allow_sections();
    let area = match RSEQ.owner() {
        Some(Owner::Libc) => VIEW.with(|view| NonNull::from(view)),
        Some(Owner::Nobody) => {
            local.stage.set(Stage::Entered);
            return None;
        }
        _ => own_area(local)?,
    };
    // SAFETY: on the heap until `stop` has the proof that the kernel lets go; or in the thread's own memory, of which the kernel
    // does not know, for as long as the thread runs.
    let area: &'static Area = unsafe { area.as_ref() };
    // SAFETY: ensure_registered (1) this thread's alone, which is one of the libc's; (2) by `stop`.
    if unsafe { RSEQ.ensure_registered(area) }.is_err() {
        // Another thread is within `init`. The next use of this one tries again.
        return None;
    }
    // SAFETY: current (1) the same; (2) forgotten by `stop`, and see `Local::here`.
    let here = unsafe { RSEQ.current(area) };
    local.here.set(here);
    local.stage.set(Stage::Entered);
    here
}

/// The area on the heap, and the promise that it is left in time; `None` where the thread ends.
fn own_area(local: &Local) -> Option<NonNull<Area>> {
    if let Some(area) = local.own.get() {
        return Some(area);
    }
    // Before the registration. Refused once its destructor has run.
    if !broken::is("registers-again") && LEAVE.try_with(|_| ()).is_err() {
        local.stage.set(Stage::Left);
        return None;
    }
    let area = memory::take();
    local.own.set(Some(area));
    Some(area)
}

fn config() -> Config {
    // SAFETY: getauxval(3) only reads; 0 for an absent type.
    let auxv = |kind| match unsafe { libc::getauxval(kind) } {
        0 => None,
        value => usize::try_from(value).ok(),
    };
    // AT_RSEQ_FEATURE_SIZE and AT_RSEQ_ALIGN.
    Config::new(auxv(27), auxv(28))
}

pub(crate) fn start() {
    // SAFETY: sections (1) not used at all.
    let _ = unsafe { sections() };
}

/// Lets go of the thread's own registration, if there is one. Again: nothing.
pub(crate) fn stop() {
    LOCAL.with(|local| {
        let Some(area) = local.own.get() else {
            // A libc's registration stays, and who has none needs none now.
            if local.stage.get() == Stage::New && RSEQ.owner() != Some(Owner::Libc) {
                local.stage.set(Stage::Left);
            }
            return;
        };
        // First, since a handler that counts behind the next lines would do so by what is on its way out.
        let Ok(mask) = SignalMask::block_all() else {
            // The thread stays registered to its end, and its area for good.
            return;
        };
        local.here.set(None);
        local.own.set(None);
        local.stage.set(if broken::is("registers-again") {
            Stage::New
        } else {
            Stage::Left
        });
        let gone = release(area, &mask);
        if broken::is("frees-blocked") {
            use_the_heap();
        }
        // Open again, unlike in a libc's own exit path, and before any lock of the libc's is waited for, the heap's first of
        // all: whoever holds that may wait for this thread to take a signal (setuid(3) does, in all threads).
        if !broken::is("left-blocked") {
            // It was set a moment ago, so it can be set back.
            let _ = mask.restore();
        }
        if broken::is("frees-blocked") {
            use_the_heap();
        }
        if gone {
            // SAFETY: give (1) the kernel has let go, and the last reference was in `here`.
            unsafe { memory::give(area) };
        }
    });
}

/// For the broken variant: longer than one call, so that it is seen.
fn use_the_heap() {
    for length in 1..=1000 {
        drop(std::hint::black_box(vec![0_u8; length]));
    }
}

/// Has the kernel let go?
fn release(area: NonNull<Area>, mask: &SignalMask) -> bool {
    // SAFETY: taken by this thread, and not given back yet.
    let area = unsafe { area.as_ref() };
    if broken::is("without-release") {
        return true;
    }
    // SAFETY: current_thread (1) `enter` gave it to ensure_registered; (2) there is no other `Thread` of it.
    match unsafe { RSEQ.current_thread(area) } {
        Ok(thread) => {
            let exit = thread.on_exit_masked(ExitMode::Release, mask);
            matches!(exit, Exit::Released(_))
        }
        // Never offered.
        Err(_) => true,
    }
}

/// The CPU, where anything tells it.
#[inline(always)]
pub(crate) fn cpu() -> Option<usize> {
    // SAFETY: sections (1) used at once.
    let here = unsafe { sections() };
    match here.map(|here| here.id()) {
        // -1 where the kernel no longer knows the thread.
        Some(cpu) if cpu <= i32::MAX as usize => Some(cpu),
        _ => cpu_without_sections(),
    }
}

#[cold]
fn cpu_without_sections() -> Option<usize> {
    let own = LOCAL.with(|local| local.own.get());
    if let Some(area) = own {
        // SAFETY: taken by this thread, and not given back yet.
        let cpu = RSEQ.current_cpu(unsafe { area.as_ref() }).ok()?;
        return usize::try_from(cpu).ok();
    }
    // By the libc's own area, or the vDSO.
    // SAFETY: it takes nothing.
    usize::try_from(unsafe { libc::sched_getcpu() }).ok()
}

pub(crate) fn support() -> Support {
    // SAFETY: sections (1) not used at all.
    if unsafe { sections() }.is_some() {
        return match RSEQ.owner() {
            Some(Owner::Libc) => Support::LibcRegistration,
            _ => Support::OwnRegistration,
        };
    }
    Support::Atomics(LOCAL.with(why_none))
}

fn why_none(local: &Local) -> &'static str {
    if local.stage.get() == Stage::Left {
        return "the thread ends";
    }
    match RSEQ.section_support() {
        SectionSupport::KnownBad => {
            return "this kernel does not abort critical sections: Linux 7.0.14 or later";
        }
        SectionSupport::Unknown => return "a kernel that does not tell its version",
        _ => {}
    }
    if let Some(reason) = RSEQ.reason() {
        return reason.remedy().as_str();
    }
    // SAFETY: taken by this thread, and not given back yet.
    let state = local.own.get().map(|area| unsafe { area.as_ref() }.state());
    match state {
        Some(State::Unavailable(reason)) => reason.remedy().as_str(),
        _ => "the libc has not registered this thread",
    }
}

/// Memory of areas.
mod memory {
    use super::{Area, NonNull, broken, place, remove};

    pub(super) fn take() -> NonNull<Area> {
        if broken::is("without-release") {
            return alone::take();
        }
        place(Area::new())
    }

    /// # Safety
    /// 1. From [`take`], once, and neither the kernel nor anybody else uses it any more.
    pub(super) unsafe fn give(area: NonNull<Area>) {
        if broken::is("without-release") {
            return alone::give(area);
        }
        // SAFETY: remove (1) is (1).
        unsafe { remove(area) };
    }

    /// For the broken variant: memory that is not there any more when it is given back.
    mod alone {
        use super::{Area, NonNull};

        pub(super) fn take() -> NonNull<Area> {
            let (access, flags) = (
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            );
            // SAFETY: a new mapping. Zero is an area.
            let map = unsafe { libc::mmap(std::ptr::null_mut(), 4096, access, flags, -1, 0) };
            match NonNull::new(map.cast()) {
                Some(area) if map != libc::MAP_FAILED => area,
                _ => std::process::abort(),
            }
        }

        pub(super) fn give(area: NonNull<Area>) {
            // SAFETY: the mapping of `take`, and that the kernel still writes there is what is to be seen.
            unsafe { libc::munmap(area.as_ptr().cast(), 4096) };
        }
    }
}
