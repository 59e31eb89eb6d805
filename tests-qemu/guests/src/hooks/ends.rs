//! Ends of a process: the last thread, exit_group(2) and SIGKILL in the middle of everything.

use core::ptr;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicPtr, AtomicU32};
use linux_raw_sys::general::SIGKILL;

use rseq_rt::{Callback, Config, ExitMode, Owner, State, Thread};

use super::children::look;
use crate::harness::child::wait;
use crate::harness::{Ctx, Failed, PASSED, Test, Verdict, failed, forked};
use crate::hooked::{self, Hooked, RSEQ};
use crate::sys::process::{self, Status, exit_group};
use crate::sys::time::{self, Span};
use crate::sys::{mm, sched, signal, task};
use crate::{check, passed, text, witness};

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("ends/last-thread-keeps", last_keeps),
    Test::new("ends/last-thread-releases", last_releases),
    Test::new("ends/status-of-the-process", status),
    Test::new("ends/exit-group-amid-creations", exit_group_amid),
    Test::new("ends/kill-amid-releases", kill_amid),
];

const STACK: usize = 32 * 1024;

/// The main thread's payload, for whoever waits for its end.
static MAIN: AtomicPtr<Hooked> = AtomicPtr::new(ptr::null_mut());
/// In memory that children share: how many callbacks ran.
static CALLED: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());

/// Leaves with `status` by the exit hook, after it started `last`. The kernel tells when it is gone.
fn main_leaves(
    config: Config,
    last: fn() -> Result<(), Failed>,
    status: i32,
) -> Result<(), Failed> {
    check!(RSEQ.init(config) == Ok(None), "init");
    // SAFETY: (1) once in this process, on its main thread.
    let Ok(thread) = (unsafe { hooked::adopt_main() }) else {
        check!(false, "the create hook");
        return Ok(());
    };
    let Some(own) = hooked::here() else {
        check!(false, "no block");
        return Ok(());
    };
    MAIN.store(ptr::from_ref(own).cast_mut(), Release);
    // SAFETY: (1) the main thread's block is never unmapped.
    unsafe { task::set_clear_tid(own.clear_tid.as_ptr()) };
    last()?;
    // SAFETY: (1) nothing on this stack waits to be dropped.
    unsafe { thread.on_exit(ExitMode::Keep).into_kept().exit(status) }
}

unsafe extern "C" fn at_exit(_: *mut core::ffi::c_void) {
    let Some(own) = hooked::here() else {
        let _ = failed(text!("no block in a callback"));
        return;
    };
    let registered = RSEQ.owner() == Some(Owner::Runtime);
    let state = own.area.state();
    let right = match registered {
        true => state == State::Registered(Owner::Runtime),
        false => matches!(state, State::Unavailable(_)),
    };
    let wrong = witness::first_wrong(witness::cpus(), &own.area);
    if !right || wrong.is_some() || witness::kernel_knows(&own.area) != registered {
        let _ = failed(text!("rseq was over before the callbacks were"));
    }
    // SAFETY: shared by the test before its children, never unmapped.
    if let Some(called) = unsafe { CALLED.load(Acquire).as_ref() } {
        called.fetch_add(1, Relaxed);
    }
}

/// The body of the thread that outlives all others.
fn last(thread: &Thread<'_>, hooked: &Hooked) {
    // SAFETY: the main thread's block is never unmapped.
    let ended = unsafe { MAIN.load(Acquire).as_ref() }.map(|main| main.clear_tid.wait());
    if !matches!(ended, Some(Ok(_))) {
        let _ = failed(text!("no clear-tid of the main thread"));
    }
    look(thread, hooked);
    for _ in 0..3 {
        let joined = hooked::start_joinable(STACK, look, 0).map(hooked::Joinable::join);
        if !matches!(joined, Ok(Ok(()))) {
            let _ = failed(text!("no thread without the main one"));
        }
    }
    for _ in 0..3 {
        // SAFETY: (1) it reads and counts.
        let callback = unsafe { Callback::new(at_exit, ptr::null_mut()) };
        if hooked.at_exit.push(callback).is_err() {
            let _ = failed(text!("push"));
        }
    }
}

fn last_thread(ctx: &Ctx<'_>, start: fn() -> Result<(), Failed>) -> Verdict {
    let page: *mut AtomicU32 = mm::map_shared(mm::page_size())?.cast();
    CALLED.store(page, Release);
    let rounds = ctx.scale(200, 20, 10) as u32;
    for _ in 0..rounds {
        let status = forked(|| {
            let _ = main_leaves(hooked::config(ctx.env), start, 0);
            exit_group(1);
        })?;
        check!(status == Status::Exited(0), "the process ", status);
    }
    // SAFETY: mapped above, zeroed, never unmapped.
    let called = unsafe { (*page).load(Relaxed) };
    check!(
        called == rounds * 3,
        called,
        " of ",
        rounds * 3,
        " callbacks"
    );
    PASSED
}

fn last_keeps(ctx: &Ctx<'_>) -> Verdict {
    last_thread(ctx, || {
        // Nobody joins it: the process is over when it ends.
        let _ = hooked::start_joinable(STACK, last, 0)?;
        Ok(())
    })
}

fn last_releases(ctx: &Ctx<'_>) -> Verdict {
    last_thread(ctx, || Ok(hooked::start_detached(STACK, last, 0)?))
}

/// exit_group(2) of the last thread is heard. Without it the status is the last thread's from Linux 5.18
/// or so, the main thread's before that: a runtime's last thread had better call it.
fn status(ctx: &Ctx<'_>) -> Verdict {
    fn ends_all(thread: &Thread<'_>, hooked: &Hooked) {
        last(thread, hooked);
        exit_group(3);
    }
    let told = forked(|| {
        let start = || Ok(hooked::start_detached(STACK, ends_all, 0)?);
        let _ = main_leaves(hooked::config(ctx.env), start, 5);
    })?;
    check!(
        told == Status::Exited(3),
        "the last said 3, and the process ",
        told
    );
    let untold = forked(|| {
        let start = || Ok(hooked::start_detached(STACK, last, 0)?);
        let _ = main_leaves(hooked::config(ctx.env), start, 5);
    })?;
    match untold {
        Status::Exited(0) => passed!("without exit_group it is the last thread's"),
        Status::Exited(5) => passed!("without exit_group it is the main thread's"),
        other => {
            check!(false, "the process ", other);
            PASSED
        }
    }
}

/// The status that a round's exit_group(2) names.
const TOLD: i32 = 42;
/// Creations left until somebody ends the process.
static LEFT: AtomicU32 = AtomicU32::new(u32::MAX);

fn short(_: &Thread<'_>, hooked: &Hooked) {
    if hooked.argument != 0 && LEFT.fetch_sub(1, Relaxed) == 1 {
        exit_group(TOLD);
    }
}

fn creates_joinable(_: &Thread<'_>, hooked: &Hooked) {
    loop {
        let joined =
            hooked::start_joinable(STACK, short, hooked.argument).map(hooked::Joinable::join);
        if !matches!(joined, Ok(Ok(()))) {
            exit_group(98);
        }
    }
}

fn creates_detached(_: &Thread<'_>, hooked: &Hooked) {
    loop {
        // Without a join nothing slows this down but the kernel's limits.
        if hooked::start_detached(STACK, short, hooked.argument).is_err() {
            sched::relax();
        }
    }
}

/// Two creators of each kind; `argument` is that of the threads they make.
fn creators(config: Config, argument: usize) -> Result<(), Failed> {
    check!(RSEQ.init(config) == Ok(None), "init");
    // SAFETY: (1) once in this process, on its main thread.
    check!(unsafe { hooked::adopt_main() }.is_ok(), "create");
    for body in [
        creates_joinable,
        creates_detached,
        creates_joinable,
        creates_detached,
    ] {
        let _ = hooked::start_joinable(STACK, body, argument)?;
    }
    Ok(())
}

fn exit_group_amid(ctx: &Ctx<'_>) -> Verdict {
    let rounds = ctx.scale(300, 20, 15);
    for round in 0..rounds {
        let status = forked(|| {
            // In turn: one of the threads, at a creation of its own choice, or the main one, at any moment.
            let by_thread = round & 1 == 0;
            LEFT.store(1 + ((round as u32 * 37) & 0x3ff), Relaxed);
            if creators(hooked::config(ctx.env), by_thread.into()).is_err() {
                exit_group(1);
            }
            if by_thread {
                loop {
                    let _ = time::sleep(Span::secs(1));
                }
            }
            let _ = time::sleep(Span::micros((round * 13) & 0x7ff));
            exit_group(TOLD);
        })?;
        check!(status == Status::Exited(TOLD), "round ", round, " ", status);
    }
    passed!(rounds, " processes")
}

fn kill_amid(ctx: &Ctx<'_>) -> Verdict {
    let rounds = ctx.scale(400, 25, 15);
    for round in 0..rounds {
        // SAFETY: (1) the child starts its own threads.
        let pid = unsafe { process::fork()? };
        if pid == 0 {
            let _ = creators(hooked::config(ctx.env), 0);
            loop {
                let _ = time::sleep(Span::secs(1));
            }
        }
        let _ = time::sleep(Span::micros(500 + ((round * 37) & 0xfff)));
        signal::kill(pid, SIGKILL as i32)?;
        let status = wait(pid)?;
        check!(
            status == Status::Killed(SIGKILL as i32),
            "round ",
            round,
            " ",
            status
        );
    }
    passed!(rounds, " processes")
}
