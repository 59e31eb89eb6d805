//! The system calls of each hook: their number, order and arguments, counted under ptrace.

use linux_raw_sys::general::SIGSYS;
use rseq_rt::{
    Area, AtExit, ClearTid, Config, Error, Kernel, Process, Scoped, SignalMask, SliceEnd,
};

use super::counts_calls::{Call, Calls, section};
use super::{counts_exits as exits, counts_without as without};
use crate::check;
use crate::harness::{Ctx, Failed, Needs, PASSED, Test, Verdict};
use crate::hooked::{self, RSEQ};
use crate::sys::process;
use crate::sys::signal::{self, Mask};
use crate::thread;

const RSEQ_AND_PTRACE: Needs = Needs::RSEQ.and(Needs::PTRACE);
const SECCOMP_AND_PTRACE: Needs = Needs::SECCOMP.and(Needs::PTRACE);

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("counts/create-and-reads", create_and_reads).needs(RSEQ_AND_PTRACE),
    Test::new("counts/keep-and-release", exits::keep_and_release).needs(RSEQ_AND_PTRACE),
    Test::new("counts/scoped-and-lazy", exits::scoped_and_lazy).needs(RSEQ_AND_PTRACE),
    Test::new("counts/unmap-and-exit", exits::unmap_and_exit).needs(RSEQ_AND_PTRACE),
    Test::new("counts/chatty-hooks-are-caught", chatty).needs(RSEQ_AND_PTRACE),
    Test::new("counts/disabled", without::disabled).needs(Needs::PTRACE),
    Test::new("counts/unavailable", without::unavailable).needs(SECCOMP_AND_PTRACE),
    Test::new("counts/attempts-of-each-thread", without::attempts).needs(SECCOMP_AND_PTRACE),
    Test::new("counts/filtered", without::filtered).needs(SECCOMP_AND_PTRACE),
    Test::new("counts/unmap-and-exit-deferred", exits::deferred).needs(SECCOMP_AND_PTRACE),
    Test::new("counts/libc-in-sight", without::libc_in_sight).needs(Needs::PTRACE),
    Test::new("counts/libc-out-of-sight", without::libc_out_of_sight).needs(Needs::PTRACE),
];

/// What stands where all signals are blocked but SIGSYS, by which a filter answers.
pub(super) const ALL: u64 = !signal::bit(SIGSYS as i32);
/// A mask that no hook could guess.
pub(super) const BEFORE: u64 = signal::bit(10) | signal::bit(34) | signal::bit(64);
pub(super) const STACK: usize = 32 * 1024;

// In the program's own memory: the counting parent knows their addresses, and they outlive every thread.
static MAIN: Area = Area::new();
static OTHER: Area = Area::new();
static THIRD: Area = Area::new();

/// Starts a thread on a bare stack and waits for its end.
pub(super) fn on_a_thread(body: fn() -> Result<(), Failed>) -> Result<(), Failed> {
    thread::start(STACK, body, |body| _ = body())?.join()?;
    Ok(())
}

/// The same for a body that is given its process.
pub(super) fn on_a_thread_with<K: Kernel + Sync>(
    process: &'static Process<K>,
    body: fn(&'static Process<K>) -> Result<(), Failed>,
) -> Result<(), Failed> {
    thread::start(STACK, (process, body), |(process, body)| _ = body(process))?.join()?;
    Ok(())
}

fn create_and_reads(ctx: &Ctx<'_>) -> Verdict {
    let config = hooked::config(ctx.env);
    let length = config.length();
    let calls = Calls::of(|| _ = create_and_read(config))?;
    calls.expect("init", &[])?;
    let create = |area| {
        [
            Call::mask(ALL),
            Call::register(area, length),
            Call::mask(BEFORE),
        ]
    };
    calls.expect("the first create", &create(&MAIN))?;
    calls.expect("ensure_registered", &[])?;
    calls.expect("current_cpu, current_node, current_mm_cid", {
        // Before Linux 6.3 the area has no node.
        let node_by_call: &[_] = &[Call::GETCPU];
        if ctx.facts.feature_size >= 24 {
            &[]
        } else {
            node_by_call
        }
    })?;
    calls.expect("state, owner, length", &[])?;
    calls.expect("lend and end", &[])?;
    calls.expect("run_at_exit", &[])?;
    calls.expect("a slice that is off", &[])?;
    calls.expect("a wait for a cleared word", &[])?;
    calls.expect("a later create", &create(&OTHER))?;
    calls.expect("create, masked", &[Call::register(&THIRD, length)])?;
    PASSED
}

fn create_and_read(config: Config) -> Result<(), Failed> {
    signal::mask(Mask::Exactly(BEFORE))?;
    let init = section("init", || RSEQ.init(config));
    check!(init == Ok(None), "init");
    // SAFETY: on_thread_create (1, 2) MAIN is this thread's for ever; (3) it stays here.
    let thread = section("the first create", || unsafe {
        RSEQ.on_thread_create(&MAIN)
    });
    let Ok(thread) = thread else {
        check!(false, "the first create");
        return Ok(());
    };
    // SAFETY: as above.
    let state = section("ensure_registered", || unsafe {
        RSEQ.ensure_registered(&MAIN)
    });
    check!(state == Ok(thread.state()), "ensure_registered");
    section("current_cpu, current_node, current_mm_cid", || {
        (
            RSEQ.current_cpu(&MAIN).is_ok(),
            RSEQ.current_node(&MAIN).is_ok(),
            RSEQ.current_mm_cid(&MAIN),
        )
    });
    section("state, owner, length", || {
        let process = (
            RSEQ.owner(),
            RSEQ.length(),
            RSEQ.feature_size(),
            RSEQ.reason(),
        );
        (thread.state(), MAIN.errno(), MAIN.cpu_id(), process)
    });
    section("lend and end", || thread.lend().end());
    let callbacks = AtExit::<4>::new();
    section("run_at_exit", || thread.run_at_exit(&callbacks));
    let end = section("a slice that is off", || {
        let request = MAIN.request_slice();
        MAIN.yield_slice(request)
    });
    check!(end == SliceEnd::Off, "a slice");
    let word = ClearTid::new();
    // SAFETY: the word is here, and nobody else writes it.
    unsafe { word.as_ptr().write_volatile(0) };
    let reclaimed = section("a wait for a cleared word", || word.wait());
    check!(reclaimed.is_ok(), "the wait");
    on_a_thread(|| {
        // SAFETY: on_thread_create (1, 2) OTHER is this thread's for ever; (3) it stays here.
        let thread = section("a later create", || unsafe {
            RSEQ.on_thread_create(&OTHER)
        });
        check!(thread.is_ok(), "a later create");
        Ok(())
    })?;
    on_a_thread(|| {
        let Ok(mask) = SignalMask::block_all() else {
            check!(false, "block_all");
            return Ok(());
        };
        // SAFETY: on_thread_create_masked (1, 2) THIRD is this thread's for ever; (3) it stays here.
        let thread = section("create, masked", || unsafe {
            RSEQ.on_thread_create_masked(&THIRD, &mask)
        });
        check!(thread.is_ok(), "create, masked");
        Ok(())
    })
}

fn chatty(ctx: &Ctx<'_>) -> Verdict {
    let config = hooked::config(ctx.env);
    let length = config.length();
    let calls = Calls::of(|| _ = chatter(config))?;
    let create = [
        Call::mask(ALL),
        Call::register(&MAIN, length),
        Call::mask(BEFORE),
    ];
    let release = [Call::mask(ALL), Call::unregister(&MAIN, length)];
    check!(
        calls.are("honest create", &create),
        "the honest create was not counted right"
    );
    for name in ["one call more", "the mask opened", "never ran"] {
        check!(!calls.are(name, &create), *name, " went unnoticed");
    }
    check!(
        !calls.are("unregister first", &release),
        "the wrong order went unnoticed"
    );
    let other_length = [Call::mask(ALL), Call::unregister(&MAIN, length + 1)];
    check!(
        !calls.are("honest release", &other_length),
        "the wrong length went unnoticed"
    );
    check!(
        calls.are("honest release", &release),
        "the honest release was not counted right"
    );
    PASSED
}

/// Hooks as they are not meant to be, and two honest ones.
fn chatter(config: Config) -> Result<(), Failed> {
    let end = |scoped: Result<Scoped<'_>, Error>| {
        check!(scoped.map(Scoped::end) == Ok(Ok(())), "a scope did not end");
        Ok(())
    };
    signal::mask(Mask::Exactly(BEFORE))?;
    check!(RSEQ.init(config) == Ok(None), "init");
    // SAFETY: scoped (1, 2, 3), here and below: MAIN is this thread's for ever.
    end(section("honest create", || unsafe { RSEQ.scoped(&MAIN) }))?;
    end(section("one call more", || {
        process::gettid();
        // SAFETY: as above.
        unsafe { RSEQ.scoped(&MAIN) }
    }))?;
    let opened = section("the mask opened", || {
        // SAFETY: as above.
        let mask = SignalMask::block_all().map(|mask| unsafe {
            let _ = RSEQ.on_thread_create_masked(&MAIN, &mask);
        });
        let _ = signal::mask(Mask::Exactly(0));
        mask
    });
    check!(opened.is_ok(), "block_all");
    signal::mask(Mask::Exactly(BEFORE))?;
    // SAFETY: current_thread (1) MAIN is this thread's; (2) the only one from here on.
    if let Ok(thread) = unsafe { RSEQ.current_thread(&MAIN) } {
        section("unregister first", || {
            // SAFETY: assume_blocked (1) not true, which is what is wrong with this variant.
            let mask = unsafe { SignalMask::assume_blocked(0) };
            let gone = hooked::release_masked(thread, &mask);
            let _ = SignalMask::block_all();
            // SAFETY: recycle_area (1) no handler is installed.
            let _ = gone.map(|gone| unsafe { gone.recycle_area() });
        });
    }
    // SAFETY: on_thread_create (1, 2) as above; (3) it stays here.
    if let Ok(thread) = unsafe { RSEQ.on_thread_create(&MAIN) } {
        let gone = section("honest release", || hooked::release(thread));
        check!(gone.is_ok(), "release");
    }
    Ok(())
}
