//! A filter that comes when threads are registered already: those stay so, and their memory is safe.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Release};

use linux_raw_sys::general::{__NR_rseq, SIGSEGV};
use rseq_rt::abi::FLAG_UNREGISTER;
use rseq_rt::{Area, ClearTid, Error, ExitMode, Owner, Scoped, State, Thread};

use super::filtered::{STACK, detached, joined, meaning, refusal, right_everywhere, runs_on};
use crate::errno::Errno;
use crate::harness::{Ctx, Failed, PASSED, Verdict, expect_killed_by, failed};
use crate::hooked::{self, Hooked, RSEQ};
use crate::seccomp::{self, Answer, When};
use crate::stack::Stack;
use crate::sys::mm::{self, Access};
use crate::sys::{futex, process, sched};
use crate::{check, text, thread};

const OURS: State = State::Registered(Owner::Runtime);

/// Opened once the filter is there.
static GATE: AtomicU32 = AtomicU32::new(0);
static REGISTERED: AtomicU32 = AtomicU32::new(0);

fn wait_at_gate() {
    REGISTERED.fetch_add(1, Release);
    while GATE.load(Acquire) == 0 {
        let _ = futex::wait(&GATE, 0, None);
    }
}

fn open_gate() {
    GATE.store(1, Release);
    let _ = futex::wake(&GATE, 1000);
}

/// Born before the filter, ends after it; how is its runtime's affair.
fn early(thread: &Thread<'_>, _: &Hooked) {
    wait_at_gate();
    still_right(thread.area());
}

#[track_caller]
fn still_right(area: &Area) {
    if area.state() != OURS || area.cpu_id() < 0 {
        let _ = failed(text!("a registered thread lost its registration"));
    }
    right_everywhere(area);
}

/// As [`early`], and asks for its release itself, to see the answer.
fn early_asks<const ERRNO: u32>(thread: &Thread<'_>, hooked: &Hooked) {
    early(thread, hooked);
    // SAFETY: current_thread (1) this thread's area; (2) it does not come back to its runtime.
    let Ok(thread) = (unsafe { RSEQ.current_thread(thread.area()) }) else {
        let _ = failed(text!("the thread is not known"));
        return;
    };
    let refused = meaning(ERRNO).1.map(Error::StillRegistered);
    match thread.on_exit(ExitMode::Release) {
        rseq_rt::Exit::Released(_) => _ = failed(text!("released against the filter")),
        rseq_rt::Exit::Kept(kept) => {
            if kept.why() != refused {
                let errno = kept.why().map_or(0, Error::raw_os_error);
                let _ = failed(text!("another error: ", errno));
            }
            // SAFETY: current_thread (1, 2) as above, and there is none by now.
            let late = unsafe { RSEQ.ensure_registered(&hooked.area) };
            if late != Ok(State::Exiting) || hooked.area.cpu_id() < 0 {
                let _ = failed(text!("the area changed after the refusal"));
            }
            // SAFETY: exit (1) nothing on this stack waits to be dropped.
            unsafe { kept.exit(0) }
        }
    }
}

fn late<const ERRNO: u32>(thread: &Thread<'_>, _: &Hooked) {
    let (reason, errno) = meaning(ERRNO);
    runs_on(thread.area(), reason, errno);
}

/// A scope that began before the filter and ends after it.
fn early_scope<const ERRNO: u32>(_: &()) {
    static SCOPE: Area = Area::new();
    // SAFETY: scoped (1, 2, 3) SCOPE is this thread's for ever.
    let scoped = unsafe { RSEQ.scoped(&SCOPE) };
    wait_at_gate();
    let refused = meaning(ERRNO).1.map(Error::StillRegistered);
    if scoped.map(Scoped::end).ok().and_then(Result::err) != refused {
        let _ = failed(text!("the end of a scope"));
    }
    still_right(&SCOPE);
}

/// The process before the filter: its main thread is registered.
fn registered_main(ctx: &Ctx<'_>) -> Result<Thread<'static>, Failed> {
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    // SAFETY: (1) once in this process, on its main thread.
    let main = unsafe { hooked::adopt_main() };
    let main = main.map_err(|_| failed(text!("the main thread's create hook")))?;
    check!(main.state() == OURS, "the main thread is not registered");
    Ok(main)
}

/// The memory of a thread that was refused its release is still mapped, and whoever waits for clear-tid frees it.
fn reclaim(stack: Stack, word: &ClearTid) -> Result<(), Failed> {
    let reclaimed = word.wait();
    let reclaimed = reclaimed.map_err(|_| failed(text!("the wait for clear-tid")))?;
    let lowest = stack.base().wrapping_add(mm::page_size());
    // SAFETY: protect (1): the thread has ended, and mprotect(2) says ENOMEM of what is not mapped.
    unsafe { mm::protect(lowest, mm::page_size(), Access::ReadWrite)? };
    // SAFETY: unmap (1) the thread's own stack, and its end is proven.
    unsafe { reclaimed.unmap(stack.base(), stack.len()) }.map_err(|_| failed(text!("unmapping it")))
}

/// From here on rseq(2) is refused in every thread.
pub(super) fn all<const ERRNO: u32>(ctx: &Ctx<'_>) -> Verdict {
    static WORDS: [ClearTid; 2] = [const { ClearTid::new() }; 2];
    static SCOPE: Area = Area::new();
    let main = registered_main(ctx)?;
    let (length, fields) = (RSEQ.length(), RSEQ.feature_size());
    let keeps = hooked::start_joinable(STACK, early, 0)?;
    let asks = hooked::start_joinable(STACK, early_asks::<ERRNO>, 0)?;
    let [left, asked] = &WORDS;
    let (left_stack, asked_stack) = (Stack::map(STACK)?, Stack::map(STACK)?);
    hooked::start_watched(left_stack, early, 0, left)?;
    hooked::start_watched(asked_stack, early_asks::<ERRNO>, 0, asked)?;
    hooked::start_detached(STACK, early, 0)?;
    let scope = thread::start(STACK, (), early_scope::<ERRNO>)?;
    while REGISTERED.load(Acquire) < 6 {
        sched::relax();
    }
    seccomp::install_everywhere(__NR_rseq, When::Always, Answer::Errno(Errno(ERRNO)))?;
    for _ in 0..ctx.scale(20, 3, 3) {
        joined(late::<ERRNO>)?;
        detached(late::<ERRNO>)?;
    }
    open_gate();
    check!(keeps.join().is_ok() && asks.join().is_ok(), "join");
    scope.join()?;
    reclaim(left_stack, left)?;
    reclaim(asked_stack, asked)?;
    check!(RSEQ.owner() == Some(Owner::Runtime), "the owner changed");
    check!(RSEQ.reason().is_none(), "the process has a reason");
    check!(
        RSEQ.length() == length && RSEQ.feature_size() == fields,
        "the length"
    );
    still_right(main.area());
    // A scope that could not begin ends well.
    // SAFETY: scoped (1, 2, 3) SCOPE is nobody else's.
    let ended = unsafe { RSEQ.scoped(&SCOPE) }.map(Scoped::end);
    let (reason, errno) = meaning(ERRNO);
    let expected = refusal(reason, errno).map_or(Ok(()), Err);
    check!(ended == Ok(expected), "a scope without rseq");
    let area = main.area();
    let refused = meaning(ERRNO).1.map(Error::StillRegistered);
    check!(
        hooked::release(main).err() == Some(refused),
        "release of the main thread"
    );
    check!(
        area.state() == State::Exiting && area.cpu_id() >= 0,
        "the main thread's area"
    );
    PASSED
}

/// The broken variant: a runtime that takes the refusal for a release.
pub(super) fn refused_and_freed(ctx: &Ctx<'_>) -> Verdict {
    fn life(ctx: &Ctx<'_>, frees: bool) -> Result<(), Failed> {
        let page = mm::map(mm::page_size(), Access::ReadWrite)?.cast::<Area>();
        check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
        // SAFETY: on_thread_create (1) a new page, zeroed, of this thread; (2) is what is broken with `frees`;
        // (3) it stays here.
        let thread = unsafe { RSEQ.on_thread_create(&*page) };
        seccomp::install(
            __NR_rseq,
            When::ArgIs(2, FLAG_UNREGISTER),
            Answer::Errno(Errno::PERM),
        )?;
        let released = thread.map(hooked::release);
        check!(
            matches!(released, Ok(Err(_))),
            "released against the filter"
        );
        if frees {
            // SAFETY: not at all: the kernel still writes there.
            unsafe { mm::unmap(page.cast(), mm::page_size())? };
        }
        for _ in 0..3 {
            for cpu in sched::allowed()?.iter() {
                sched::allow(0, &sched::CpuSet::one(cpu))?;
            }
            sched::relax();
        }
        Ok(())
    }
    fn everywhere(ctx: &Ctx<'_>, frees: bool) {
        let all = sched::allowed();
        let _ = life(ctx, frees);
        let _ = all.map(|all| sched::allow(0, &all));
    }
    expect_killed_by(SIGSEGV as i32, || everywhere(ctx, true))?;
    let status = crate::harness::forked(|| everywhere(ctx, false))?;
    check!(
        status == process::Status::Exited(0),
        "the memory was kept: ",
        status
    );
    PASSED
}

/// Registration passes and unregistration does not: every release is refused, and nothing else suffers.
pub(super) fn only_unregistration(ctx: &Ctx<'_>) -> Verdict {
    static WORD: ClearTid = ClearTid::new();
    static SCOPE: Area = Area::new();
    fn body(thread: &Thread<'_>, _: &Hooked) {
        still_right(thread.area());
    }
    seccomp::install(
        __NR_rseq,
        When::ArgIs(2, FLAG_UNREGISTER),
        Answer::Errno(Errno::PERM),
    )?;
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    let refused = Error::StillRegistered(rseq_rt::Errno::PERM);
    // SAFETY: scoped (1, 2, 3) SCOPE is the main thread's for ever.
    let scoped = unsafe { RSEQ.scoped(&SCOPE) };
    check!(
        scoped.map(Scoped::end) == Ok(Err(refused)),
        "the end of the scope"
    );
    still_right(&SCOPE);
    // SAFETY: scoped (1, 2, 3) as above.
    let again = unsafe { RSEQ.scoped(&SCOPE) }.map(Scoped::end);
    check!(again == Err(Error::AlreadyCreated), "a second scope");
    for _ in 0..ctx.scale(50, 5, 5) {
        joined(body)?;
        let stack = Stack::map(STACK)?;
        hooked::start_watched(stack, body, 0, &WORD)?;
        reclaim(stack, &WORD)?;
        // SAFETY: its thread has ended, and this is the only reader.
        unsafe { WORD.as_ptr().write_volatile(u32::MAX) };
    }
    still_right(&SCOPE);
    PASSED
}
