//! The system calls of the exits.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed};

use linux_raw_sys::general::__NR_rseq;
use rseq_rt::{Area, ClearTidPlace, Deferred, ExitMode, SignalMask, State, Thread};

use super::calls::{Call, Calls, rest, section};
use super::{ALL, BEFORE, STACK, set_mask};
use crate::errno::Errno;
use crate::harness::Ctx;
use crate::hooked::{self, RSEQ};
use crate::hooks::common::{Hooks as _, init_with, on_thread};
use crate::seccomp::{self, Answer, When};
use crate::sys::mm::{self, Access};
use crate::sys::time::{self, Span};
use crate::sys::{process, signal};
use crate::thread;

// Static: the counting parent knows the addresses, and they outlive every thread.
static FIRST: Area = Area::new();
static SECOND: Area = Area::new();
static THIRD: Area = Area::new();
static FOURTH: Area = Area::new();

/// Creates the calling thread under mask BEFORE.
#[track_caller]
fn created(area: &'static Area) -> Thread<'static> {
    set_mask(BEFORE);
    RSEQ.create(area).unwrap()
}

pub fn keep_and_release(ctx: &Ctx) {
    let config = hooked::config(ctx.env);
    let length = config.length();
    let calls = Calls::of(|| {
        init_with(config);
        on_thread(STACK, || {
            let thread = created(&FIRST);
            rest("keep and exit");
            // SAFETY: exit (1) nothing on this stack waits to be dropped.
            unsafe { thread.on_exit(ExitMode::Keep).into_kept().exit(0) }
        });
        on_thread(STACK, || {
            let thread = created(&SECOND);
            rest("release and exit");
            // SAFETY: exit (1) nothing on this stack waits to be dropped.
            unsafe { hooked::release(thread).unwrap().exit(0) }
        });
        on_thread(STACK, || {
            let thread = created(&THIRD);
            let mask = SignalMask::block_all().unwrap();
            let _kept = section("keep, masked", || {
                thread.on_exit_masked(ExitMode::Keep, &mask).into_kept()
            });
        });
        on_thread(STACK, || {
            let thread = created(&FOURTH);
            let mask = SignalMask::block_all().unwrap();
            let _gone =
                section("release, masked", || hooked::release_masked(thread, &mask)).unwrap();
            let late = section("a late ensure_registered", || RSEQ.ensure(&FOURTH));
            assert_eq!(late, Ok(State::Exiting));
        });
    });
    calls.expect("keep and exit", &[Call::mask(ALL), Call::EXIT]);
    let unregister = Call::unregister(&SECOND, length);
    let release = [Call::mask(ALL), unregister, Call::EXIT];
    calls.expect("release and exit", &release);
    calls.expect("keep, masked", &[]);
    calls.expect("release, masked", &[Call::unregister(&FOURTH, length)]);
    calls.expect("a late ensure_registered", &[]);
}

pub fn scoped_and_lazy(ctx: &Ctx) {
    let config = hooked::config(ctx.env);
    let length = config.length();
    let calls = Calls::of(|| {
        init_with(config);
        set_mask(BEFORE);
        let scoped = section("scoped", || RSEQ.scope(&FIRST)).unwrap();
        section("end", || scoped.end()).unwrap();
        let scoped = RSEQ.scope(&SECOND).unwrap();
        section("drop", || drop(scoped));
        let lazy = section("the first ensure_registered", || RSEQ.ensure(&THIRD));
        lazy.unwrap();
    });
    let (before, after) = (Call::mask(ALL), Call::mask(BEFORE));
    calls.expect("scoped", &[before, Call::register(&FIRST, length), after]);
    calls.expect("end", &[before, Call::unregister(&FIRST, length), after]);
    calls.expect("drop", &[before, Call::unregister(&SECOND, length), after]);
    let lazy = [before, Call::register(&THIRD, length), after];
    calls.expect("the first ensure_registered", &lazy);
}

// Unmapped instead of the thread's stack: the address is known before the thread exists.
static OUTSIDE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static INSIDE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static TID: AtomicU32 = AtomicU32::new(0);

fn new_page(place: &AtomicPtr<u8>) -> *mut u8 {
    let page = mm::map(mm::page_size(), Access::ReadWrite).unwrap();
    place.store(page, Relaxed);
    page
}

/// Runs `body`, which sets TID and ends in an exit that makes the kernel forget the word that a joiner would wait for.
fn on_lost_thread(body: fn()) {
    TID.store(0, Relaxed);
    let _ = thread::start(STACK, body, |body| body()).unwrap();
    let alive = |tid| tid == 0 || signal::kill_thread(tid, 0).is_ok();
    while alive(TID.load(Relaxed)) {
        let _ = time::sleep(Span::millis(1));
    }
}

fn unmap(
    area: &'static Area,
    memory: &AtomicPtr<u8>,
    place: ClearTidPlace,
    name: &'static str,
) -> ! {
    let gone = hooked::release(created(area)).unwrap();
    TID.store(process::gettid(), Relaxed);
    let base = memory.load(Relaxed);
    rest(name);
    // SAFETY: unmap_and_exit (1) an unused mapping; (2) `Inside` makes the kernel forget a word, which is allowed
    // wherever that lies; (3) there is no list; (4) nothing waits to be dropped.
    unsafe { gone.unmap_and_exit(base, mm::page_size(), place, 0) }
}

pub fn unmap_and_exit(ctx: &Ctx) {
    let page = mm::page_size();
    let (outside, inside) = (new_page(&OUTSIDE), new_page(&INSIDE));
    let config = hooked::config(ctx.env);
    let calls = Calls::of(|| {
        init_with(config);
        on_thread(STACK, || {
            unmap(&FIRST, &OUTSIDE, ClearTidPlace::Outside, "outside");
        });
        on_lost_thread(|| unmap(&SECOND, &INSIDE, ClearTidPlace::Inside, "inside"));
    });
    // Finally SIGSYS too: after the munmap there is no stack for a handler.
    let unmap = |base| [Call::mask(u64::MAX), Call::munmap(base, page), Call::EXIT];
    let [mask, munmap, exit] = unmap(inside);
    calls.expect("inside", &[Call::FORGET_CLEAR_TID, mask, munmap, exit]);
    calls.expect("outside", &unmap(outside));
}

static TAKEN: Area = Area::new();
static DEFERRED: Deferred = Deferred::new();

/// A refused release leaves the mapping to the next thread: set_tid_address(2) reports the end, and another thread
/// unmaps it, with signals blocked.
pub fn deferred(ctx: &Ctx) {
    fn refused() {
        let thread = created(&TAKEN);
        seccomp::install(__NR_rseq, When::Always, Answer::Errno(Errno::PERM)).unwrap();
        let exit = thread.on_exit(ExitMode::Release);
        TID.store(process::gettid(), Relaxed);
        rest("refused");
        let base = INSIDE.load(Relaxed);
        // SAFETY: unmap_and_exit (1, 2, 3, 4) as in `unmap`; (5) the area is static, and swept once below.
        unsafe { exit.unmap_and_exit(base, mm::page_size(), ClearTidPlace::Inside, &DEFERRED, 0) }
    }
    let page = mm::page_size();
    let inside = new_page(&INSIDE);
    let config = hooked::config(ctx.env);
    let calls = Calls::of(|| {
        init_with(config);
        let early = section("nothing to sweep", || DEFERRED.sweep());
        on_lost_thread(refused);
        let swept = section("sweep", || DEFERRED.sweep());
        let again = section("sweep again", || DEFERRED.sweep());
        assert_eq!((early, swept, again), (0, 1, 0));
    });
    calls.expect("nothing to sweep", &[]);
    let left = [Call::clear_tid_in(&TAKEN), Call::PROBE, Call::EXIT];
    calls.expect("refused", &left);
    let unmapped = [
        Call::PROBE,
        Call::mask(ALL),
        Call::munmap(inside, page),
        Call::mask(0),
    ];
    calls.expect("sweep", &unmapped);
    calls.expect("sweep again", &[]);
}
