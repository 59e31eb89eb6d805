//! The system calls of the hooks where this runtime registers nobody: by policy, by refusal, or as the libc's guest.

use core::sync::atomic::{AtomicI32, Ordering::Relaxed};

use linux_raw_sys::general::__NR_rseq;
use rseq_rt::abi::{FEATURE_SIZE_SLICE_CTRL, FLAG_SLICE_EXT_DEFAULT_ON};
use rseq_rt::{Area, Claim, Config, Kernel, Owner, Process, Reason, SignalMask, State};

use super::counts::{ALL, BEFORE, on_a_thread};
use super::counts_calls::{Call, Calls, rest, section};
use super::foreign_trio::{self, Libc};
use crate::check;
use crate::errno::Errno;
use crate::harness::{Ctx, Failed, PASSED, Verdict};
use crate::hooked::{self, RSEQ};
use crate::seccomp::{self, Answer, When};
use crate::sys::signal::{self, Mask};

static MAIN: Area = Area::new();
static KEPT: Area = Area::new();
static RELEASED: Area = Area::new();
static MASKED: Area = Area::new();

/// The life of a process and its threads, in sections; the main thread first.
fn life<K: Kernel>(process: &'static Process<K>, state: State) -> Result<(), Failed> {
    signal::mask(Mask::Exactly(BEFORE))?;
    // SAFETY: on_thread_create (1, 2) MAIN is this thread's for ever; (3) it stays here.
    let thread = section("the first create", || unsafe {
        process.on_thread_create(&MAIN)
    });
    check!(
        thread.is_ok_and(|thread| thread.state() == state),
        "the state"
    );
    section("reads", || {
        (
            process.owner(),
            process.length(),
            process.reason(),
            MAIN.state(),
        )
    });
    // SAFETY: ensure_registered (1, 2) as above.
    let again = section("ensure_registered", || unsafe {
        process.ensure_registered(&MAIN)
    });
    check!(again == Ok(state), "ensure_registered");
    let cpu = section("current_cpu", || process.current_cpu(&MAIN));
    check!(cpu.is_ok(), "current_cpu");
    Ok(())
}

fn keeps<K: Kernel>(process: &'static Process<K>) -> Result<(), Failed> {
    signal::mask(Mask::Exactly(BEFORE))?;
    // SAFETY: on_thread_create (1, 2) KEPT is this thread's for ever; (3) it stays here.
    let thread = section("a later create", || unsafe {
        process.on_thread_create(&KEPT)
    });
    let Ok(thread) = thread else {
        check!(false, "a later create");
        return Ok(());
    };
    rest("keep and exit");
    // SAFETY: exit (1) nothing on this stack waits to be dropped.
    unsafe { thread.on_exit_keep().exit(0) }
}

fn releases<K: Kernel>(process: &'static Process<K>) -> Result<(), Failed> {
    signal::mask(Mask::Exactly(BEFORE))?;
    let Ok(mask) = SignalMask::block_all() else {
        check!(false, "block_all");
        return Ok(());
    };
    // SAFETY: on_thread_create_masked (1, 2) MASKED is this thread's for ever; (3) it stays here.
    let thread = section("create, masked", || unsafe {
        process.on_thread_create_masked(&MASKED, &mask)
    });
    check!(thread.is_ok(), "create, masked");
    check!(mask.restore().is_ok(), "restore");
    // SAFETY: on_thread_create (1, 2) RELEASED is this thread's for ever, a second area of it; (3) it stays here.
    let thread = unsafe { process.on_thread_create(&RELEASED) };
    let gone = section("release", || thread.map(|thread| thread.on_exit_release()));
    let Ok(Ok(gone)) = gone else {
        check!(false, "release");
        return Ok(());
    };
    rest("exit");
    // SAFETY: exit (1) nothing on this stack waits to be dropped.
    unsafe { gone.exit(0) }
}

/// What no hook does differently, whoever the owner is.
fn nothing_but_masks(calls: &Calls, exit_mask: &[Call]) -> Result<(), Failed> {
    calls.expect("reads", &[])?;
    calls.expect("ensure_registered", &[])?;
    calls.expect("a later create", &[])?;
    calls.expect("create, masked", &[])?;
    calls.expect("release", exit_mask)?;
    calls.expect("exit", &[Call::EXIT])?;
    match exit_mask {
        [mask] => calls.expect("keep and exit", &[*mask, Call::EXIT]),
        _ => calls.expect("keep and exit", &[Call::EXIT]),
    }
}

pub(super) fn disabled(ctx: &Ctx<'_>) -> Verdict {
    let config = hooked::config(ctx.env).disabled();
    let calls = Calls::of(|| {
        let _ = section("init", || RSEQ.init(config));
        let _ = life(&RSEQ, State::Unavailable(Reason::Disabled));
        let _ = on_a_thread(|| keeps(&RSEQ));
        let _ = on_a_thread(|| releases(&RSEQ));
    })?;
    calls.expect("init", &[])?;
    calls.expect("the first create", &[])?;
    calls.expect("current_cpu", &[Call::GETCPU])?;
    nothing_but_masks(&calls, &[Call::mask(ALL)])?;
    PASSED
}

pub(super) fn unavailable(ctx: &Ctx<'_>) -> Verdict {
    let config = hooked::config(ctx.env);
    let length = config.length();
    let calls = Calls::of(|| {
        let _ = seccomp::install(__NR_rseq, When::Always, Answer::Errno(Errno::NOSYS));
        let _ = section("init", || RSEQ.init(config));
        let _ = life(&RSEQ, State::Unavailable(Reason::NoSyscall));
        let _ = on_a_thread(|| keeps(&RSEQ));
        let _ = on_a_thread(|| releases(&RSEQ));
    })?;
    calls.expect("init", &[])?;
    let first = [
        Call::mask(ALL),
        Call::register(&MAIN, length),
        Call::mask(BEFORE),
    ];
    calls.expect("the first create", &first)?;
    calls.expect("current_cpu", &[Call::GETCPU])?;
    nothing_but_masks(&calls, &[Call::mask(ALL)])?;
    PASSED
}

/// EINVAL may mean the flag, the length, or a taken thread: the first create tries them in turn, later ones do not.
pub(super) fn attempts(_: &Ctx<'_>) -> Verdict {
    let long = Config::new(Some(33), Some(64)).claim(Claim::Runtime);
    let plain = |length| Call::register(&MAIN, length);
    let slice = Call::rseq(&MAIN, FEATURE_SIZE_SLICE_CTRL, FLAG_SLICE_EXT_DEFAULT_ON);
    let (before, after) = (Call::mask(ALL), Call::mask(BEFORE));
    let expected: [(Config, &[Call]); 3] = [
        (long.legacy_length(), &[before, plain(32), after]),
        (long, &[before, plain(33), plain(32), after]),
        (
            long.slice_extension(),
            &[before, slice, plain(33), plain(32), after],
        ),
    ];
    for (config, first) in expected {
        let calls = Calls::of(|| {
            let _ = seccomp::install(__NR_rseq, When::Always, Answer::Errno(Errno::INVAL));
            let _ = RSEQ.init(config);
            let _ = life(&RSEQ, State::Unavailable(Reason::Taken));
            let _ = on_a_thread(|| keeps(&RSEQ));
            let _ = on_a_thread(|| releases(&RSEQ));
        })?;
        calls.expect("the first create", first)?;
        nothing_but_masks(&calls, &[])?;
    }
    PASSED
}

/// A libc that exports `__rseq_*` has registered its threads: nothing is left to do.
pub(super) fn libc_in_sight(_: &Ctx<'_>) -> Verdict {
    static PROCESS: Process<Libc> = Process::with_kernel(Libc);
    // What the libc wrote before the thread started, as far as the hooks look at it.
    static CPU_ID: AtomicI32 = AtomicI32::new(0);
    let calls = Calls::of(|| {
        foreign_trio::export(CPU_ID.as_ptr().cast());
        CPU_ID.store(0, Relaxed);
        let owner = section("init", || PROCESS.init(Config::new(None, None)));
        let seen = owner == Ok(Some(Owner::Libc));
        if !seen {
            let _ = crate::harness::failed(crate::text!("the owner"));
        }
        let _ = life(&PROCESS, State::Registered(Owner::Libc));
        let _ = on_a_thread(|| keeps(&PROCESS));
        let _ = on_a_thread(|| releases(&PROCESS));
    })?;
    calls.expect("init", &[])?;
    calls.expect("the first create", &[])?;
    calls.expect("current_cpu", &[])?;
    nothing_but_masks(&calls, &[])?;
    PASSED
}

/// The runtime's word alone: whose area it is cannot be seen, so the CPU comes from getcpu(2).
pub(super) fn libc_out_of_sight(_: &Ctx<'_>) -> Verdict {
    let calls = Calls::of(|| {
        let config = Config::new(None, None).claim(Claim::Libc);
        let _ = section("init", || RSEQ.init(config));
        let _ = life(&RSEQ, State::Unavailable(Reason::Taken));
        let _ = on_a_thread(|| keeps(&RSEQ));
        let _ = on_a_thread(|| releases(&RSEQ));
    })?;
    calls.expect("init", &[])?;
    calls.expect("the first create", &[])?;
    calls.expect("current_cpu", &[Call::GETCPU])?;
    nothing_but_masks(&calls, &[])?;
    PASSED
}
