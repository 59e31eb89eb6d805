//! fork(2): the child has the registration of the thread that forked, and the memory of all the others.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;
use linux_raw_sys::general::{MADV_DONTFORK, MADV_WIPEONFORK, SIGSEGV};

use rseq_rt::{Area, ClearTid, Config, Error, Owner, State, Thread};

use crate::harness::{Ctx, Failed, Needs, PASSED, Test, Verdict, expect_killed_by, failed, forked};
use crate::hooked::{self, Hooked, RSEQ};
use crate::stack::Stack;
use crate::sys::futex;
use crate::sys::mm::{self, Access};
use crate::sys::process::{Status, exit_group};
use crate::sys::sched::{self, CpuSet};
use crate::{check, passed, skip, text, witness};

/// The family. qemu-user's own threads do not survive what two of them do: a fork among others, and a thread in
/// the child that gets the number of one that was not copied (its assertions say so).
pub const TESTS: &[Test] = &[
    Test::new("children/fork-keeps-the-registration", from_main),
    Test::new("children/fork-from-a-thread", from_thread),
    Test::new("children/fork-child-reclaims-the-others", reclaim).needs(Needs::REAL_KERNEL),
    Test::new("children/fork-amid-creations", amid_creations).needs(Needs::REAL_KERNEL),
    Test::new("children/area-left-out-of-fork-kills", left_out).needs(Needs::RSEQ.cpus(2)),
    Test::new("children/area-wiped-at-fork", wiped).needs(Needs::RSEQ.cpus(2)),
];

const STACK: usize = 32 * 1024;
/// A child's checks all passed: only then does it come to this exit.
const ALL_RIGHT: i32 = 7;

fn registered() -> bool {
    RSEQ.owner() == Some(Owner::Runtime)
}

/// What must hold on any thread between its hooks.
pub(super) fn is_right(area: &Area) -> Result<(), Failed> {
    let state = area.state();
    let expected = match registered() {
        true => state == State::Registered(Owner::Runtime),
        false => matches!(state, State::Unavailable(_)),
    };
    check!(expected, "the state is not that of the process");
    check!(
        witness::kernel_knows(area) == registered(),
        "the kernel has another view of the area"
    );
    let wrong = witness::first_wrong(witness::cpus(), area);
    check!(wrong.is_none(), "wrong on CPU ", wrong.unwrap_or(0));
    Ok(())
}

/// The body of a thread that only looks.
pub(super) fn look(thread: &Thread<'_>, _: &Hooked) {
    let _ = is_right(thread.area());
}

/// One joined and one self-unmapping thread.
fn threads() -> Result<(), Failed> {
    static ENDED: ClearTid = ClearTid::new();
    let joined = hooked::start_joinable(STACK, look, 0)?.join();
    check!(joined.is_ok(), "join");
    hooked::start_watched(Stack::map(STACK)?, look, 0, &ENDED)?;
    match ENDED.wait() {
        Ok(reclaimed) => ENDED.rearm(&reclaimed),
        Err(_) => check!(false, "no clear-tid of a detached thread"),
    }
    Ok(())
}

/// The forked child: everything true, nothing to redo, and a way out of its own.
fn child(area: &Area) -> Result<(), Failed> {
    is_right(area)?;
    // SAFETY: on_thread_create (1, 2, 3) refused; it is this thread's own area.
    let again = unsafe { RSEQ.on_thread_create(area) };
    check!(
        matches!(again, Err(Error::AlreadyCreated)),
        "created a second time"
    );
    threads()?;
    // SAFETY: (1) the area of the thread that forked, whose copy this is; (2) the parent's `Thread` stays the parent's.
    let Ok(thread) = (unsafe { RSEQ.current_thread(area) }) else {
        check!(false, "no current thread in the child");
        return Ok(());
    };
    let Ok(gone) = hooked::release(thread) else {
        check!(false, "the child could not release");
        return Ok(());
    };
    check!(!witness::kernel_knows(area), "released, and still known");
    // SAFETY: (1) nothing on this stack waits to be dropped.
    unsafe { gone.exit(ALL_RIGHT) }
}

/// Forks, and sees that the child's life and end change nothing here.
fn fork_and_look(area: &Area) -> Result<(), Failed> {
    let status = forked(|| _ = child(area))?;
    check!(status == Status::Exited(ALL_RIGHT), "the child ", status);
    is_right(area)
}

fn from_main(ctx: &Ctx<'_>) -> Verdict {
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    // SAFETY: (1) once in this process, on its main thread.
    let Ok(thread) = (unsafe { hooked::adopt_main() }) else {
        check!(false, "the create hook");
        return PASSED;
    };
    for _ in 0..ctx.scale(200, 20, 10) {
        fork_and_look(thread.area())?;
    }
    PASSED
}

fn from_thread(ctx: &Ctx<'_>) -> Verdict {
    fn body(thread: &Thread<'_>, _: &Hooked) {
        let _ = fork_and_look(thread.area());
    }
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    for _ in 0..ctx.scale(200, 20, 10) {
        let joined = hooked::start_joinable(STACK, body, 0)?.join();
        check!(joined.is_ok(), "join");
    }
    PASSED
}

fn reclaim(ctx: &Ctx<'_>) -> Verdict {
    static GATE: AtomicU32 = AtomicU32::new(0);
    static READY: AtomicU32 = AtomicU32::new(0);
    fn wait(_: &Thread<'_>, _: &Hooked) {
        READY.store(1, Relaxed);
        while GATE.load(Relaxed) == 0 {
            let _ = futex::wait(&GATE, 0, None);
        }
    }
    fn in_child(other: &hooked::Joinable) -> Result<(), Failed> {
        let area = &other.hooked().area;
        check!(
            other.hooked().clear_tid.try_reclaim().is_none(),
            "clear-tid fired for a thread that was not copied"
        );
        // SAFETY: (1) a fork child, and `other` did not fork.
        let (stack, reclaimed) = unsafe { other.reclaim_in_fork_child() };
        // SAFETY: (1) its thread is proven gone, and nobody had the area since.
        unsafe { reclaimed.recycle(area) };
        check!(
            area.state() == State::Unregistered,
            "recycled to another state"
        );
        // The very same memory, for three threads in a row.
        let mut stack = stack;
        for _ in 0..3 {
            let next = hooked::start_joinable_on(stack, look, 0)?;
            match next.join_keeping_stack() {
                Ok((free, _)) => stack = free,
                Err(_) => check!(false, "join on reclaimed memory"),
            }
        }
        // SAFETY: joined, so nobody uses it.
        unsafe { stack.unmap()? };
        Ok(())
    }
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    for _ in 0..ctx.scale(100, 10, 10) {
        GATE.store(0, Relaxed);
        READY.store(0, Relaxed);
        let other = hooked::start_joinable(STACK, wait, 0)?;
        while READY.load(Relaxed) == 0 {
            sched::relax();
        }
        let status = forked(|| {
            if in_child(&other).is_ok() {
                exit_group(ALL_RIGHT);
            }
        })?;
        check!(status == Status::Exited(ALL_RIGHT), "the child ", status);
        GATE.store(1, Relaxed);
        futex::wake(&GATE, 1)?;
        check!(other.join().is_ok(), "the parent's own join");
    }
    PASSED
}

fn amid_creations(ctx: &Ctx<'_>) -> Verdict {
    static OVER: AtomicU32 = AtomicU32::new(0);
    fn forks(thread: &Thread<'_>, hooked: &Hooked) {
        for _ in 0..hooked.argument {
            if fork_and_look(thread.area()).is_err() {
                return;
            }
        }
    }
    fn creates(_: &Thread<'_>, _: &Hooked) {
        fn nothing(_: &Thread<'_>, _: &Hooked) {}
        while OVER.load(Relaxed) == 0 {
            let Ok(Ok(())) = hooked::start_joinable(STACK, nothing, 0).map(hooked::Joinable::join)
            else {
                let _ = failed(text!("a creation amid forks failed"));
                return;
            };
        }
    }
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    let rounds = ctx.scale(60, 5, 5) as usize;
    let creators: [_; 2] = core::array::from_fn(|_| hooked::start_joinable(STACK, creates, 0));
    let forkers: [_; 4] = core::array::from_fn(|_| hooked::start_joinable(STACK, forks, rounds));
    for forker in forkers {
        check!(forker?.join().is_ok(), "join of a forker");
    }
    OVER.store(1, Relaxed);
    for creator in creators {
        check!(creator?.join().is_ok(), "join of a creator");
    }
    PASSED
}

/// A page of its own with an area in it, for the main thread.
fn lone_area() -> Result<(*mut u8, &'static Area), Failed> {
    let page = mm::map(mm::page_size(), Access::ReadWrite)?;
    // SAFETY: zeroed, aligned, never unmapped: an unregistered area.
    Ok((page, unsafe { &*page.cast::<Area>() }))
}

/// The broken variant of a runtime: it keeps its control blocks out of fork children.
fn left_out(ctx: &Ctx<'_>) -> Verdict {
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    let (page, area) = lone_area()?;
    // SAFETY: (1, 2) this thread's, never unmapped; (3) it stays.
    check!(unsafe { RSEQ.on_thread_create(area) }.is_ok(), "create");
    // SAFETY: (1) the child dies of it, as it should.
    unsafe { mm::advise(page, mm::page_size(), MADV_DONTFORK)? };
    expect_killed_by(SIGSEGV as i32, || witness::migrate(witness::cpus()))?;
    is_right(area)?;
    PASSED
}

/// Zeroed in the child, the area looks new while the kernel knows it. With length 32 the create hook starts
/// clean; with more, zeroes are a store like any other, and the child dies of its first move.
fn wiped(ctx: &Ctx<'_>) -> Verdict {
    let config = hooked::config(ctx.env);
    let with = |config| {
        forked(|| {
            if anew(config).is_ok() {
                exit_group(ALL_RIGHT);
            }
        })
    };
    // The kernel's debug mode forgives no length.
    if !ctx.facts.strict {
        let status = with(config.legacy_length())?;
        check!(status == Status::Exited(ALL_RIGHT), "length 32: ", status);
    }
    if !witness::kills_for_stores(ctx.facts) {
        return PASSED;
    }
    check!(RSEQ.init(config) == Ok(None), "init");
    let (area, cpus) = (wiped_area()?, witness::cpus());
    // Zeroes are the true ids of a thread on CPU 0, and nobody minds them.
    let Some(last) = cpus.iter().last() else {
        return skip!("no CPU");
    };
    sched::allow(0, &CpuSet::one(last))?;
    expect_killed_by(SIGSEGV as i32, || witness::migrate(cpus))?;
    sched::allow(0, &cpus)?;
    is_right(area)?;
    if ctx.facts.strict {
        return passed!("the child is killed");
    }
    passed!("the child is killed, and starts clean with length 32")
}

/// The main thread's area, created and to be wiped in a fork child.
fn wiped_area() -> Result<&'static Area, Failed> {
    let (page, area) = lone_area()?;
    // SAFETY: (1, 2) this thread's, never unmapped; (3) it stays.
    check!(unsafe { RSEQ.on_thread_create(area) }.is_ok(), "create");
    // SAFETY: (1) all bytes zero is an area.
    unsafe { mm::advise(page, mm::page_size(), MADV_WIPEONFORK)? };
    Ok(area)
}

fn anew(config: Config) -> Result<(), Failed> {
    check!(RSEQ.init(config) == Ok(None), "init");
    let area = wiped_area()?;
    let status = forked(|| {
        let unregistered = area.state() == State::Unregistered;
        // SAFETY: (1, 2) the only thread's, never unmapped; (3) it stays.
        let created = unsafe { RSEQ.on_thread_create(area) }.is_ok();
        if unregistered && created && is_right(area).is_ok() {
            exit_group(ALL_RIGHT);
        }
    })?;
    check!(status == Status::Exited(ALL_RIGHT), "the child ", status);
    is_right(area)
}
