//! Ends of a process: the last thread, exit_group(2), and SIGKILL at any moment.

mod refused;

use core::ptr;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicPtr, AtomicU32};
use linux_raw_sys::general::SIGKILL;

use rseq_rt::{Callback, ExitMode, Thread};

use super::common::{is_right, joined, look, main_thread};
use crate::harness::child::wait;
use crate::harness::{Ctx, Needs, Test, forked, passed};
use crate::hooked::{self, Hooked};
use crate::sys::process::{self, Status, exit_group};
use crate::sys::time::{self, Span};
use crate::sys::{mm, sched, signal, task};

pub const TESTS: &[Test] = &[
    Test::new("ends/last-thread-keeps", last_keeps),
    Test::new("ends/last-thread-releases", last_releases),
    Test::new("ends/status-of-the-process", status),
    Test::new("ends/exit-group-amid-creations", exit_group_amid),
    Test::new("ends/kill-amid-releases", kill_amid),
    Test::new("ends/creation-refused-by-a-limit", refused::limited).needs(Needs::REAL_KERNEL),
    Test::new("ends/creation-refused-by-a-filter", refused::filtered).needs(Needs::SECCOMP),
    Test::new("ends/many-alive-at-once", refused::many),
];

const STACK: usize = 32 * 1024;

/// The main thread's payload, for the thread that waits for its end.
static MAIN: AtomicPtr<Hooked> = AtomicPtr::new(ptr::null_mut());
/// The number of callbacks that ran, in memory shared with children.
static CALLED: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());

/// The start of a thread that outlives the main one.
type Start = fn() -> Result<(), crate::errno::Errno>;

/// Starts the last thread, then leaves with `status` by the exit hook. The kernel clears a word at its end.
fn main_leaves(ctx: &Ctx, start: Start, status: i32) -> ! {
    let thread = main_thread(ctx);
    let own = hooked::here().unwrap();
    MAIN.store(ptr::from_ref(own).cast_mut(), Release);
    // SAFETY: (1) the main thread's block is never unmapped.
    unsafe { task::set_clear_tid(own.clear_tid.as_ptr()) };
    start().unwrap();
    // SAFETY: (1) nothing on this stack waits to be dropped.
    unsafe { thread.on_exit(ExitMode::Keep).into_kept().exit(status) }
}

unsafe extern "C" fn at_exit(_: *mut core::ffi::c_void) {
    is_right(&hooked::here().unwrap().area);
    // SAFETY: shared by the test before its children, never unmapped.
    if let Some(called) = unsafe { CALLED.load(Acquire).as_ref() } {
        called.fetch_add(1, Relaxed);
    }
}

/// The body of the thread that outlives all others.
fn last(thread: &Thread<'_>, hooked: &Hooked) {
    // SAFETY: the main thread's block is never unmapped.
    let main = unsafe { MAIN.load(Acquire).as_ref() }.unwrap();
    let _ = main.clear_tid.wait().unwrap();
    look(thread, hooked);
    for _ in 0..3 {
        joined(STACK, look, 0);
    }
    for _ in 0..3 {
        // SAFETY: (1) it reads and counts.
        let callback = unsafe { Callback::new(at_exit, ptr::null_mut()) };
        hooked.at_exit.push(callback).unwrap();
    }
}

fn last_thread(ctx: &Ctx, start: Start) {
    let page: *mut AtomicU32 = mm::map_shared(mm::page_size()).unwrap().cast();
    CALLED.store(page, Release);
    let rounds = ctx.scale(200, 20, 10) as u32;
    for _ in 0..rounds {
        let status = forked(|| main_leaves(ctx, start, 0));
        assert_eq!(status, Ok(Status::Exited(0)));
    }
    // SAFETY: mapped above, zeroed, never unmapped.
    let called = unsafe { (*page).load(Relaxed) };
    assert_eq!(called, rounds * 3, "callbacks");
}

fn last_keeps(ctx: &Ctx) {
    // It is not joined: the process is over when it ends.
    last_thread(ctx, || hooked::start_joinable(STACK, last, 0).map(|_| ()));
}

fn last_releases(ctx: &Ctx) {
    last_thread(ctx, || hooked::start_detached(STACK, last, 0));
}

/// exit_group(2) of the last thread determines the status. Without it the status is the last thread's from about Linux
/// 5.18 on, and the main thread's before: a runtime's last thread should call it.
fn status(ctx: &Ctx) {
    fn ends_all(thread: &Thread<'_>, hooked: &Hooked) {
        last(thread, hooked);
        exit_group(3);
    }
    let with = forked(|| main_leaves(ctx, || hooked::start_detached(STACK, ends_all, 0), 5));
    assert_eq!(with, Ok(Status::Exited(3)));
    let without = forked(|| main_leaves(ctx, || hooked::start_detached(STACK, last, 0), 5));
    match without {
        Ok(Status::Exited(0)) => passed!("without exit_group it is the last thread's"),
        Ok(Status::Exited(5)) => passed!("without exit_group it is the main thread's"),
        other => panic!("without exit_group: {other:?}"),
    }
}

/// The status of a round's exit_group(2).
const NAMED: i32 = 42;
/// Creations left until somebody ends the process.
static LEFT: AtomicU32 = AtomicU32::new(u32::MAX);

fn short(_: &Thread<'_>, hooked: &Hooked) {
    if hooked.argument != 0 && LEFT.fetch_sub(1, Relaxed) == 1 {
        exit_group(NAMED);
    }
}

fn creates_joinable(_: &Thread<'_>, hooked: &Hooked) {
    loop {
        joined(STACK, short, hooked.argument);
    }
}

fn creates_detached(_: &Thread<'_>, hooked: &Hooked) {
    loop {
        // Without a join, only the kernel's limits slow this down.
        if hooked::start_detached(STACK, short, hooked.argument).is_err() {
            sched::relax();
        }
    }
}

/// Two creators of each kind; `argument` is for the threads they start.
fn creators(ctx: &Ctx, argument: usize) {
    let _ = main_thread(ctx);
    for _ in 0..2 {
        for body in [creates_joinable, creates_detached] {
            let _ = hooked::start_joinable(STACK, body, argument).unwrap();
        }
    }
}

fn sleep_for_ever() -> ! {
    loop {
        let _ = time::sleep(Span::secs(1));
    }
}

fn exit_group_amid(ctx: &Ctx) {
    let rounds = ctx.scale(100, 20, 15);
    for round in 0..rounds {
        let status = forked(|| {
            // Alternately: one of the threads, at a creation of its choice, or the main thread, at any moment.
            let by_thread = round & 1 == 0;
            LEFT.store(1 + ((round as u32 * 37) & 0x3ff), Relaxed);
            creators(ctx, by_thread.into());
            if by_thread {
                sleep_for_ever();
            }
            let _ = time::sleep(Span::micros((round * 13) & 0x7ff));
            exit_group(NAMED);
        });
        assert_eq!(status, Ok(Status::Exited(NAMED)), "round {round}");
    }
    passed!("{rounds} processes");
}

fn kill_amid(ctx: &Ctx) {
    let rounds = ctx.scale(150, 25, 15);
    for round in 0..rounds {
        // SAFETY: (1) the child starts its own threads.
        let pid = unsafe { process::fork() }.unwrap();
        if pid == 0 {
            creators(ctx, 0);
            sleep_for_ever();
        }
        let _ = time::sleep(Span::micros(500 + ((round * 37) & 0xfff)));
        signal::kill(pid, SIGKILL as i32).unwrap();
        let killed = Ok(Status::Killed(SIGKILL as i32));
        assert_eq!(wait(pid), killed, "round {round}");
    }
    passed!("{rounds} processes");
}
