//! The system calls of the exits.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed};

use linux_raw_sys::general::__NR_rseq;
use rseq_rt::{Area, ClearTidPlace, Deferred, Error, ExitMode, Scoped, SignalMask, Thread};

use super::counts::{ALL, BEFORE, on_a_thread};
use super::counts_calls::{Call, Calls, rest, section};
use crate::check;
use crate::errno::Errno;
use crate::harness::{Ctx, Failed, PASSED, Verdict};
use crate::hooked::{self, RSEQ};
use crate::seccomp::{self, Answer, When};
use crate::sys::mm::{self, Access};
use crate::sys::process;
use crate::sys::signal::{self, Mask};
use crate::sys::time::{self, Span};

// In the program's own memory: the counting parent knows their addresses, and they outlive every thread.
static FIRST: Area = Area::new();
static SECOND: Area = Area::new();
static THIRD: Area = Area::new();
static FOURTH: Area = Area::new();

/// Creates the calling thread under the mask BEFORE.
fn created(area: &'static Area) -> Result<Thread<'static>, Failed> {
    signal::mask(Mask::Exactly(BEFORE))?;
    // SAFETY: on_thread_create (1, 2) each area is one thread's, for ever; (3) the callers keep it.
    unsafe { RSEQ.on_thread_create(area) }.map_err(unexpected)
}

#[track_caller]
fn refused(why: Option<Error>) -> Failed {
    unexpected(why.unwrap_or(Error::NotInitialized))
}

#[track_caller]
fn unexpected(error: Error) -> Failed {
    crate::harness::failed(crate::text!("unexpected error ", error.raw_os_error()))
}

pub(super) fn keep_and_release(ctx: &Ctx<'_>) -> Verdict {
    let config = hooked::config(ctx.env);
    let length = config.length();
    let calls = Calls::of(|| {
        let _ = RSEQ.init(config);
        let _ = on_a_thread(|| {
            let thread = created(&FIRST)?;
            rest("keep and exit");
            // SAFETY: exit (1) nothing on this stack waits to be dropped.
            unsafe { thread.on_exit(ExitMode::Keep).into_kept().exit(0) }
        });
        let _ = on_a_thread(|| {
            let thread = created(&SECOND)?;
            rest("release and exit");
            let gone = hooked::release(thread).map_err(refused)?;
            // SAFETY: exit (1) nothing on this stack waits to be dropped.
            unsafe { gone.exit(0) }
        });
        let _ = on_a_thread(|| {
            let thread = created(&THIRD)?;
            let mask = SignalMask::block_all().map_err(unexpected)?;
            let _kept = section("keep, masked", || {
                thread.on_exit_masked(ExitMode::Keep, &mask).into_kept()
            });
            Ok(())
        });
        let _ = on_a_thread(|| {
            let thread = created(&FOURTH)?;
            let mask = SignalMask::block_all().map_err(unexpected)?;
            let gone = section("release, masked", || hooked::release_masked(thread, &mask));
            check!(gone.is_ok(), "release, masked");
            // SAFETY: ensure_registered (1, 2) as for create.
            let late = section("a late ensure_registered", || unsafe {
                RSEQ.ensure_registered(&FOURTH)
            });
            check!(late == Ok(rseq_rt::State::Exiting), "a late registration");
            Ok(())
        });
    })?;
    calls.expect("keep and exit", &[Call::mask(ALL), Call::EXIT])?;
    let unregister = Call::unregister(&SECOND, length);
    let release = [Call::mask(ALL), unregister, Call::EXIT];
    calls.expect("release and exit", &release)?;
    calls.expect("keep, masked", &[])?;
    calls.expect("release, masked", &[Call::unregister(&FOURTH, length)])?;
    calls.expect("a late ensure_registered", &[])?;
    PASSED
}

pub(super) fn scoped_and_lazy(ctx: &Ctx<'_>) -> Verdict {
    fn life() -> Result<(), Failed> {
        signal::mask(Mask::Exactly(BEFORE))?;
        // SAFETY: scoped (1, 2, 3) FIRST is this thread's for ever.
        let scoped = section("scoped", || unsafe { RSEQ.scoped(&FIRST) }).map_err(unexpected)?;
        section("end", || Scoped::end(scoped)).map_err(unexpected)?;
        // SAFETY: as above.
        let scoped = unsafe { RSEQ.scoped(&SECOND) }.map_err(unexpected)?;
        section("drop", || drop(scoped));
        // SAFETY: ensure_registered (1, 2) THIRD is this thread's for ever.
        section("the first ensure_registered", || unsafe {
            RSEQ.ensure_registered(&THIRD)
        })
        .map_err(unexpected)?;
        Ok(())
    }
    let config = hooked::config(ctx.env);
    let length = config.length();
    let calls = Calls::of(|| {
        let _ = RSEQ.init(config);
        let _ = life();
    })?;
    let (before, after) = (Call::mask(ALL), Call::mask(BEFORE));
    calls.expect("scoped", &[before, Call::register(&FIRST, length), after])?;
    calls.expect("end", &[before, Call::unregister(&FIRST, length), after])?;
    calls.expect("drop", &[before, Call::unregister(&SECOND, length), after])?;
    let lazy = [before, Call::register(&THIRD, length), after];
    calls.expect("the first ensure_registered", &lazy)?;
    PASSED
}

// What is unmapped here is not the stack of the thread: its address is known before the thread is there.
static OUTSIDE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static INSIDE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static TID: AtomicU32 = AtomicU32::new(0);

fn unmap(
    area: &'static Area,
    memory: &AtomicPtr<u8>,
    place: ClearTidPlace,
    name: &'static str,
) -> Result<(), Failed> {
    let gone = hooked::release(created(area)?);
    let gone = gone.map_err(refused)?;
    TID.store(process::gettid(), Relaxed);
    let base = memory.load(Relaxed);
    rest(name);
    // SAFETY: unmap_and_exit (1) a mapping that nobody uses; (2) `Inside` makes the kernel forget a word, which it
    // may be made to do wherever that lies; (3) there is no list; (4) nothing waits to be dropped.
    unsafe { gone.unmap_and_exit(base, mm::page_size(), place, 0) }
}

pub(super) fn unmap_and_exit(ctx: &Ctx<'_>) -> Verdict {
    let page = mm::page_size();
    let (outside, inside) = (
        mm::map(page, Access::ReadWrite)?,
        mm::map(page, Access::ReadWrite)?,
    );
    OUTSIDE.store(outside, Relaxed);
    INSIDE.store(inside, Relaxed);
    let config = hooked::config(ctx.env);
    let calls = Calls::of(|| {
        let _ = RSEQ.init(config);
        let _ = on_a_thread(|| unmap(&FIRST, &OUTSIDE, ClearTidPlace::Outside, "outside"));
        // Never joined: the kernel forgets the word that a joiner would wait for.
        let body: fn() = || _ = unmap(&SECOND, &INSIDE, ClearTidPlace::Inside, "inside");
        TID.store(0, Relaxed);
        let started = crate::thread::start(super::counts::STACK, body, |body| body());
        while started.is_ok() && alive(TID.load(Relaxed)) {
            let _ = time::sleep(Span::millis(1));
        }
    })?;
    // SIGSYS as well, at last: from the munmap on there is no stack for a handler.
    let unmap = |base| [Call::mask(u64::MAX), Call::munmap(base, page), Call::EXIT];
    let [mask, munmap, exit] = unmap(inside);
    calls.expect("inside", &[Call::FORGET_CLEAR_TID, mask, munmap, exit])?;
    calls.expect("outside", &unmap(outside))?;
    PASSED
}

/// Not yet started, or not yet gone.
fn alive(tid: u32) -> bool {
    tid == 0 || signal::kill_thread(tid, 0).is_ok()
}

static TAKEN: Area = Area::new();
static DEFERRED: Deferred = Deferred::new();

/// A release that is refused leaves the mapping to the next one: set_tid_address(2) is to tell of the end, and another
/// thread unmaps it, with signals blocked.
pub(super) fn deferred(ctx: &Ctx<'_>) -> Verdict {
    fn refused() -> Result<(), Failed> {
        let thread = created(&TAKEN)?;
        seccomp::install(__NR_rseq, When::Always, Answer::Errno(Errno::PERM))?;
        let exit = thread.on_exit(ExitMode::Release);
        TID.store(process::gettid(), Relaxed);
        rest("refused");
        let base = INSIDE.load(Relaxed);
        // SAFETY: unmap_and_exit (1, 2, 3, 4) as in `unmap`; (5) the area is static, and swept once below.
        unsafe { exit.unmap_and_exit(base, mm::page_size(), ClearTidPlace::Inside, &DEFERRED, 0) }
    }
    let page = mm::page_size();
    let inside = mm::map(page, Access::ReadWrite)?;
    INSIDE.store(inside, Relaxed);
    let config = hooked::config(ctx.env);
    let calls = Calls::of(|| {
        let _ = RSEQ.init(config);
        let early = section("nothing to sweep", || DEFERRED.sweep());
        TID.store(0, Relaxed);
        let body: fn() = || _ = refused();
        let started = crate::thread::start(super::counts::STACK, body, |body| body());
        while started.is_ok() && alive(TID.load(Relaxed)) {
            let _ = time::sleep(Span::millis(1));
        }
        let swept = section("sweep", || DEFERRED.sweep());
        let again = section("sweep again", || DEFERRED.sweep());
        if (early, swept, again) != (0, 1, 0) {
            let _ = crate::harness::failed(crate::text!("swept ", early, ", ", swept, ", ", again));
        }
    })?;
    calls.expect("nothing to sweep", &[])?;
    let left = [Call::clear_tid_in(&TAKEN), Call::PROBE, Call::EXIT];
    calls.expect("refused", &left)?;
    let unmapped = [
        Call::PROBE,
        Call::mask(ALL),
        Call::munmap(inside, page),
        Call::mask(0),
    ];
    calls.expect("sweep", &unmapped)?;
    calls.expect("sweep again", &[])?;
    PASSED
}
