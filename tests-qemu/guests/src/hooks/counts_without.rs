//! The system calls of the hooks where this runtime registers nobody: by policy, by refusal, or as the libc's guest.

use core::sync::atomic::{AtomicI32, Ordering::Relaxed};

use linux_raw_sys::general::__NR_rseq;
use rseq_rt::abi::FLAG_SLICE_EXT_DEFAULT_ON;
use rseq_rt::{
    Area, Claim, Config, Error, ExitMode, Kernel, Owner, Process, Reason, SignalMask, State,
};

use super::counts::{ALL, BEFORE, on_a_thread_with};
use super::counts_calls::{Call, Calls, rest, section};
use super::foreign_trio::{self, Libc};
use crate::errno::Errno;
use crate::harness::{Ctx, Failed, PASSED, Verdict, failed};
use crate::hooked::{self, RSEQ};
use crate::seccomp::{self, Answer, When};
use crate::sys::signal::{self, Mask};
use crate::{check, text};

static MAIN: Area = Area::new();
static KEPT: Area = Area::new();
static MASKED: Area = Area::new();

/// The life of a process and its threads, in sections; the main thread first.
fn lives<K: Kernel + Sync>(process: &'static Process<K>, config: Config, state: State) {
    let _ = section("init", || process.init(config));
    let _ = life(process, state);
    let _ = on_a_thread_with(process, keeps::<K>);
    let _ = on_a_thread_with(process, releases::<K>);
}

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
    unsafe { thread.on_exit(ExitMode::Keep).into_kept().exit(0) }
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
    let Ok(thread) = thread else {
        check!(false, "create, masked");
        return Ok(());
    };
    check!(mask.restore().is_ok(), "restore");
    let taken = thread.state() == State::Unavailable(Reason::Taken);
    let released = section("release", || hooked::release(thread));
    match (taken, released.map(drop)) {
        (false, Ok(())) | (true, Err(Some(Error::Taken))) => Ok(()),
        _ => Err(failed(text!("release"))),
    }
}

/// What every thread is asked of the kernel at its create: length and flags of each rseq(2), in turn.
type Attempts<'a> = &'a [(u32, u32)];

/// What holds wherever nobody registers. `first` are the attempts of the process's first create, `later` those of others.
fn is_cheap(calls: &Calls, first: Attempts<'_>, later: Attempts<'_>) -> Result<(), Failed> {
    let masks = Some((ALL, BEFORE));
    calls.expect("init", &[])?;
    calls.expect_attempts("the first create", &MAIN, first, masks)?;
    calls.expect_attempts("a later create", &KEPT, later, masks)?;
    calls.expect_attempts("create, masked", &MASKED, later, None)?;
    calls.expect("reads", &[])?;
    calls.expect("ensure_registered", &[])?;
    calls.expect("release", &[Call::mask(ALL)])
}

pub(super) fn disabled(ctx: &Ctx<'_>) -> Verdict {
    let config = hooked::config(ctx.env).disabled();
    let calls = Calls::of(|| lives(&RSEQ, config, State::Unavailable(Reason::Disabled)))?;
    is_cheap(&calls, &[], &[])?;
    calls.expect("current_cpu", &[Call::GETCPU])?;
    calls.expect("keep and exit", &[Call::mask(ALL), Call::EXIT])?;
    PASSED
}

/// No rseq at all: the first thread's answer is everybody's.
pub(super) fn unavailable(ctx: &Ctx<'_>) -> Verdict {
    let config = hooked::config(ctx.env);
    let calls = Calls::of(|| {
        let _ = seccomp::install(__NR_rseq, When::Always, Answer::Errno(Errno::NOSYS));
        lives(&RSEQ, config, State::Unavailable(Reason::NoSyscall));
    })?;
    is_cheap(&calls, &[(config.length(), 0)], &[])?;
    calls.expect("current_cpu", &[Call::GETCPU])?;
    calls.expect("keep and exit", &[Call::mask(ALL), Call::EXIT])?;
    PASSED
}

/// A filter may be one thread's own, so each thread asks, once.
pub(super) fn filtered(_: &Ctx<'_>) -> Verdict {
    let long = Config::new(Some(33), Some(64)).claim(Claim::Runtime);
    for (config, attempt) in [
        (long.legacy_length(), (32, 0)),
        (long, (33, 0)),
        (long.slice_extension(), (33, FLAG_SLICE_EXT_DEFAULT_ON)),
    ] {
        let calls = Calls::of(|| {
            let _ = seccomp::install(__NR_rseq, When::Always, Answer::Errno(Errno::PERM));
            lives(&RSEQ, config, State::Unavailable(Reason::Filtered));
        })?;
        is_cheap(&calls, &[attempt], &[attempt])?;
        calls.expect("current_cpu", &[Call::GETCPU])?;
        calls.expect("keep and exit", &[Call::mask(ALL), Call::EXIT])?;
    }
    PASSED
}

/// EINVAL may mean the flag, the length, or a taken thread: each create tries them in turn until one has passed.
pub(super) fn attempts(_: &Ctx<'_>) -> Verdict {
    let long = Config::new(Some(33), Some(64)).claim(Claim::Runtime);
    let expected: [(Config, Attempts<'_>); 3] = [
        (long.legacy_length(), &[(32, 0)]),
        (long, &[(33, 0), (32, 0)]),
        (
            long.slice_extension(),
            &[(33, FLAG_SLICE_EXT_DEFAULT_ON), (33, 0), (32, 0)],
        ),
    ];
    for (config, attempts) in expected {
        let calls = Calls::of(|| {
            let _ = seccomp::install(__NR_rseq, When::Always, Answer::Errno(Errno::INVAL));
            lives(&RSEQ, config, State::Unavailable(Reason::Taken));
        })?;
        is_cheap(&calls, attempts, attempts)?;
        calls.expect("current_cpu", &[Call::GETCPU])?;
        calls.expect("keep and exit", &[Call::mask(ALL), Call::EXIT])?;
    }
    PASSED
}

/// A libc that exports `__rseq_*` has registered its threads: nothing is left to do but to block signals.
pub(super) fn libc_in_sight(_: &Ctx<'_>) -> Verdict {
    static PROCESS: Process<Libc> = Process::with_kernel(Libc);
    // What the libc wrote before the thread started, as far as the hooks look at it.
    static CPU_ID: AtomicI32 = AtomicI32::new(0);
    let calls = Calls::of(|| {
        foreign_trio::export(CPU_ID.as_ptr().cast());
        CPU_ID.store(0, Relaxed);
        let config = Config::new(None, None);
        lives(&PROCESS, config, State::Registered(Owner::Libc));
        if PROCESS.owner() != Some(Owner::Libc) {
            let _ = failed(text!("the owner"));
        }
    })?;
    is_cheap(&calls, &[], &[])?;
    calls.expect("current_cpu", &[])?;
    calls.expect("keep and exit", &[Call::EXIT])?;
    PASSED
}

/// The runtime's word alone: whose area it is cannot be seen, so the CPU comes from getcpu(2).
pub(super) fn libc_out_of_sight(_: &Ctx<'_>) -> Verdict {
    let config = Config::new(None, None).claim(Claim::Libc);
    let calls = Calls::of(|| lives(&RSEQ, config, State::Unavailable(Reason::Taken)))?;
    is_cheap(&calls, &[], &[])?;
    calls.expect("current_cpu", &[Call::GETCPU])?;
    calls.expect("keep and exit", &[Call::EXIT])?;
    PASSED
}
