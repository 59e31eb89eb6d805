//! The system calls of the exits.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed};

use rseq_rt::{Area, ClearTidPlace, Error, Scoped, SignalMask, Thread};

use super::counts::{ALL, BEFORE, on_a_thread};
use super::counts_calls::{Call, Calls, rest, section};
use crate::check;
use crate::harness::{Ctx, Failed, PASSED, Verdict};
use crate::hooked::{self, RSEQ};
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
            unsafe { thread.on_exit_keep().exit(0) }
        });
        let _ = on_a_thread(|| {
            let thread = created(&SECOND)?;
            rest("release and exit");
            let gone = thread
                .on_exit_release()
                .map_err(|e| unexpected(e.error()))?;
            // SAFETY: exit (1) nothing on this stack waits to be dropped.
            unsafe { gone.exit(0) }
        });
        let _ = on_a_thread(|| {
            let thread = created(&THIRD)?;
            let mask = SignalMask::block_all().map_err(unexpected)?;
            let _kept = section("keep, masked", || thread.on_exit_keep_masked(&mask));
            Ok(())
        });
        let _ = on_a_thread(|| {
            let thread = created(&FOURTH)?;
            let mask = SignalMask::block_all().map_err(unexpected)?;
            let gone = section("release, masked", || thread.on_exit_release_masked(&mask));
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
    let gone = created(area)?.on_exit_release();
    let gone = gone.map_err(|e| unexpected(e.error()))?;
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
    let unmap = |base| [Call::FORGET_CLEAR_TID, Call::munmap(base, page), Call::EXIT];
    let [forget, munmap, exit] = unmap(inside);
    calls.expect("inside", &[forget, munmap, exit])?;
    let [_, munmap, exit] = unmap(outside);
    calls.expect("outside", &[munmap, exit])?;
    PASSED
}

/// Not yet started, or not yet gone.
fn alive(tid: u32) -> bool {
    tid == 0 || signal::kill_thread(tid, 0).is_ok()
}
