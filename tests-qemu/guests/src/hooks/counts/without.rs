//! The system calls of the hooks where this runtime does not register: by policy, by refusal, or under an owning libc.

use core::sync::atomic::{AtomicI32, Ordering::Relaxed};

use linux_raw_sys::general::__NR_rseq;
use rseq_rt::abi::FLAG_SLICE_EXT_DEFAULT_ON;
use rseq_rt::{
    Area, Claim, Config, Error, ExitMode, Kernel, Owner, Process, Reason, SignalMask, State,
};

use super::calls::{Call, Calls, rest, section};
use super::{ALL, BEFORE, on_thread_with, set_mask};
use crate::errno::Errno;
use crate::harness::Ctx;
use crate::hooked::{self, RSEQ};
use crate::hooks::common::Hooks as _;
use crate::hooks::foreign::libc::{self, Libc};
use crate::seccomp::{self, Answer, When};

static MAIN: Area = Area::new();
static KEPT: Area = Area::new();
static MASKED: Area = Area::new();

/// The life of a process and its threads, in sections; the main thread first.
fn lives<K: Kernel + Sync>(process: &'static Process<K>, config: Config, state: State) {
    let _ = section("init", || process.init(config));
    life(process, state);
    on_thread_with(process, keeps::<K>);
    on_thread_with(process, releases::<K>);
}

fn life<K: Kernel>(process: &'static Process<K>, state: State) {
    set_mask(BEFORE);
    let thread = section("the first create", || process.create(&MAIN));
    assert_eq!(thread.map(|thread| thread.state()), Ok(state));
    section("reads", || {
        let process = (process.owner(), process.length(), process.reason());
        (process, MAIN.state())
    });
    let again = section("ensure_registered", || process.ensure(&MAIN));
    assert_eq!(again, Ok(state));
    section("current_cpu", || process.current_cpu(&MAIN)).unwrap();
}

fn keeps<K: Kernel>(process: &'static Process<K>) {
    set_mask(BEFORE);
    let thread = section("a later create", || process.create(&KEPT));
    let thread = thread.map_err(drop).unwrap();
    rest("keep and exit");
    // SAFETY: exit (1) nothing on this stack waits to be dropped.
    unsafe { thread.on_exit(ExitMode::Keep).into_kept().exit(0) }
}

fn releases<K: Kernel>(process: &'static Process<K>) {
    set_mask(BEFORE);
    let mask = SignalMask::block_all().unwrap();
    let thread = section("create, masked", || process.create_masked(&MASKED, &mask));
    let thread = thread.map_err(drop).unwrap();
    mask.restore().unwrap();
    let taken = thread.state() == State::Unavailable(Reason::Taken);
    let released = section("release", || hooked::release(thread));
    let expected = if taken {
        Err(Some(Error::Taken))
    } else {
        Ok(())
    };
    assert_eq!(released.map(drop), expected);
}

/// The registration attempts of a thread at its create: length and flags of each rseq(2), in turn.
type Attempts<'a> = &'a [(u32, u32)];

/// The calls of a process without registration. `first` are the attempts of its first create, `later` those of others.
#[track_caller]
fn is_cheap(calls: &Calls, first: Attempts<'_>, later: Attempts<'_>) {
    let masks = Some((ALL, BEFORE));
    calls.expect("init", &[]);
    calls.expect_attempts("the first create", &MAIN, first, masks);
    calls.expect_attempts("a later create", &KEPT, later, masks);
    calls.expect_attempts("create, masked", &MASKED, later, None);
    calls.expect("reads", &[]);
    calls.expect("ensure_registered", &[]);
    calls.expect("release", &[Call::mask(ALL)]);
}

/// [`is_cheap`], for unregistered threads: the CPU comes from getcpu(2), and the exit blocks signals.
#[track_caller]
fn is_nobodys(calls: &Calls, first: Attempts<'_>, later: Attempts<'_>) {
    is_cheap(calls, first, later);
    calls.expect("current_cpu", &[Call::GETCPU]);
    calls.expect("keep and exit", &[Call::mask(ALL), Call::EXIT]);
}

/// The calls under a filter that gives this answer to each rseq(2).
#[track_caller]
fn refused(errno: Errno, config: Config, reason: Reason) -> Calls {
    Calls::of(|| {
        seccomp::install(__NR_rseq, When::Always, Answer::Errno(errno)).unwrap();
        lives(&RSEQ, config, State::Unavailable(reason));
    })
}

pub fn disabled(ctx: &Ctx) {
    let config = hooked::config(ctx.env).disabled();
    let calls = Calls::of(|| lives(&RSEQ, config, State::Unavailable(Reason::Disabled)));
    is_nobodys(&calls, &[], &[]);
}

/// No rseq at all: the first thread's answer holds for all.
pub fn unavailable(ctx: &Ctx) {
    let config = hooked::config(ctx.env);
    let calls = refused(Errno::NOSYS, config, Reason::NoSyscall);
    is_nobodys(&calls, &[(config.length(), 0)], &[]);
}

const WITH_SLICE: (u32, u32) = (33, FLAG_SLICE_EXT_DEFAULT_ON);

fn long() -> Config {
    Config::new(Some(33), Some(64)).claim(Claim::Runtime)
}

/// A filter may apply to one thread only, so each thread asks once.
pub fn filtered(_: &Ctx) {
    for (config, attempt) in [
        (long().legacy_length(), (32, 0)),
        (long(), (33, 0)),
        (long().slice_extension(), WITH_SLICE),
    ] {
        let calls = refused(Errno::PERM, config, Reason::Filtered);
        is_nobodys(&calls, &[attempt], &[attempt]);
    }
}

/// EINVAL may mean the flag, the length, or a taken thread: each create tries them in turn until one has succeeded.
pub fn attempts(_: &Ctx) {
    let expected: [(Config, Attempts<'_>); 3] = [
        (long().legacy_length(), &[(32, 0)]),
        (long(), &[(33, 0), (32, 0)]),
        (long().slice_extension(), &[WITH_SLICE, (33, 0), (32, 0)]),
    ];
    for (config, attempts) in expected {
        let calls = refused(Errno::INVAL, config, Reason::Taken);
        is_nobodys(&calls, attempts, attempts);
    }
}

/// A libc that exports `__rseq_*` has registered its threads: the hooks only block signals.
pub fn libc_in_sight(_: &Ctx) {
    static PROCESS: Process<Libc> = Process::with_kernel(Libc);
    // Written by the libc before the thread started, from the hooks' point of view.
    static CPU_ID: AtomicI32 = AtomicI32::new(0);
    let calls = Calls::of(|| {
        libc::export(CPU_ID.as_ptr().cast());
        CPU_ID.store(0, Relaxed);
        let config = Config::new(None, None);
        lives(&PROCESS, config, State::Registered(Owner::Libc));
        assert_eq!(PROCESS.owner(), Some(Owner::Libc));
    });
    is_cheap(&calls, &[], &[]);
    calls.expect("current_cpu", &[]);
    calls.expect("keep and exit", &[Call::EXIT]);
}

/// Only the runtime's claim: the owner's area is not visible, so the CPU comes from getcpu(2).
pub fn libc_out_of_sight(_: &Ctx) {
    let config = Config::new(None, None).claim(Claim::Libc);
    let calls = Calls::of(|| lives(&RSEQ, config, State::Unavailable(Reason::Taken)));
    is_cheap(&calls, &[], &[]);
    calls.expect("current_cpu", &[Call::GETCPU]);
    calls.expect("keep and exit", &[Call::EXIT]);
}
