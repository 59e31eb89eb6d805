//! The calling thread: whether it may run sections, and its registration if the libc has made none.
//!
//! # The order of a thread's life
//! A thread is entered at its first use, and leaves by the destructor of a thread-local. Later destructors (those of
//! thread-specific data too) find [`Stage::Left`] and use atomics: a registration made there would never be ended.
//!
//! The area that the kernel writes to is not in the thread's own memory, which musl unmaps on the thread itself. It is on
//! the heap, and freed once the kernel has released it. So a thread leaks 128 bytes instead of being killed if its
//! destructor does not run (its first use was in the last round of destructors of thread-specific data), or if a filter
//! refuses its release.

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
    /// Its support is known.
    Entered,
    /// It is ending, and is not entered again.
    Left,
}

struct Local {
    /// The `Current` of the operations. It must not be kept by other code; here its own kernel thread stores it, reads it
    /// for each operation, and clears it before the registration ends.
    here: Cell<Option<Current<'static>>>,
    stage: Cell<Stage>,
    /// The area offered to the kernel.
    own: Cell<Option<NonNull<Area>>>,
}

thread_local! {
    // Without destructors, so it is valid to the end of the thread.
    static LOCAL: Local = const {
        Local {
            here: Cell::new(None),
            stage: Cell::new(Stage::New),
            own: Cell::new(None),
        }
    };
    // If the libc owns rseq: its area is found through this one, which the kernel never sees.
    static VIEW: Area = const { Area::new() };
    static LEAVE: Leave = const { Leave };
}

struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        stop();
    }
}

/// The calling thread's `Current`, if it may run sections.
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
        // A second call is an error that changes nothing.
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
    // SAFETY: on the heap until `stop` has the proof that the kernel has released it; or in the thread's own memory,
    // which the kernel does not know, for as long as the thread runs.
    let area: &'static Area = unsafe { area.as_ref() };
    // SAFETY: ensure_registered (1) this thread's alone, which the libc made; (2) by `stop`.
    if unsafe { RSEQ.ensure_registered(area) }.is_err() {
        // Another thread is in `init`. The next use on this thread tries again.
        return None;
    }
    // SAFETY: current (1) the same; (2) cleared by `stop`, and see `Local::here`.
    let here = unsafe { RSEQ.current(area) };
    local.here.set(here);
    local.stage.set(Stage::Entered);
    here
}

/// Makes the area on the heap, and registers the destructor that releases it; `None` if the thread is ending.
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

/// Ends the thread's own registration, if there is one. A second call does nothing.
pub(crate) fn stop() {
    LOCAL.with(|local| {
        let Some(area) = local.own.get() else {
            // A libc's registration stays, and an unregistered thread stays unregistered.
            if local.stage.get() == Stage::New && RSEQ.owner() != Some(Owner::Libc) {
                local.stage.set(Stage::Left);
            }
            return;
        };
        // First, since a handler that counts after the next lines would use the area being released.
        let Ok(mask) = SignalMask::block_all() else {
            // The thread stays registered to its end, and its area is leaked.
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
        // Unblocked, unlike in a libc's own exit path, before this thread waits for any lock of the libc, above all the
        // heap's: the holder of that lock may wait for this thread to take a signal (setuid(3) does, in all threads).
        if !broken::is("left-blocked") {
            // The mask could be set a moment ago, so it can be restored.
            let _ = mask.restore();
        }
        if broken::is("frees-blocked") {
            use_the_heap();
        }
        if gone {
            // SAFETY: give (1) the kernel has released it, and the last reference was in `here`.
            unsafe { memory::give(area) };
        }
    });
}

/// For the broken variant: many calls, so that the deadlock is likely.
fn use_the_heap() {
    for length in 1..=1000 {
        drop(std::hint::black_box(vec![0_u8; length]));
    }
}

/// Whether the kernel has released the area.
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
        // It was never offered to the kernel.
        Err(_) => true,
    }
}

/// The CPU, if it is known.
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
    // From the libc's own area, or the vDSO.
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

/// The memory of areas.
mod memory {
    use super::{Area, NonNull, broken, place, remove};

    pub(super) fn take() -> NonNull<Area> {
        if broken::is("without-release") {
            return alone::take();
        }
        place(Area::new())
    }

    /// # Safety
    /// 1. It is from [`take`], is passed once, and neither the kernel nor anybody else uses it any more.
    pub(super) unsafe fn give(area: NonNull<Area>) {
        if broken::is("without-release") {
            return alone::give(area);
        }
        // SAFETY: remove (1) is (1).
        unsafe { remove(area) };
    }

    /// For the broken variant: memory that is unmapped when it is given back.
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
            // SAFETY: the mapping of `take`. The kernel's later write to it is what the test must detect.
            unsafe { libc::munmap(area.as_ptr().cast(), 4096) };
        }
    }
}
