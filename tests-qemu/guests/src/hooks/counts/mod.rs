//! The system calls of each hook: their number, order and arguments, counted under ptrace.

mod calls;
mod exits;
mod without;

use linux_raw_sys::general::SIGSYS;
use rseq_rt::{
    Area, AtExit, ClearTid, Config, Error, Kernel, Process, Scoped, SignalMask, SliceEnd,
};

use self::calls::{Call, Calls, section};
use super::common::{Hooks as _, init_with, on_thread};
use crate::harness::{Ctx, Needs, Test};
use crate::hooked::{self, RSEQ};
use crate::sys::process;
use crate::sys::signal::{self, Mask};
use crate::thread;

const RSEQ_AND_PTRACE: Needs = Needs::RSEQ.and(Needs::PTRACE);
const SECCOMP_AND_PTRACE: Needs = Needs::SECCOMP.and(Needs::PTRACE);

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

/// The mask that blocks all signals but SIGSYS, by which a filter answers.
const ALL: u64 = !signal::bit(SIGSYS as i32);
/// A mask that no hook can guess.
const BEFORE: u64 = signal::bit(10) | signal::bit(34) | signal::bit(64);
const STACK: usize = 32 * 1024;

// Static: the counting parent knows the addresses, and they outlive every thread.
static MAIN: Area = Area::new();
static OTHER: Area = Area::new();
static THIRD: Area = Area::new();

fn set_mask(mask: u64) {
    signal::mask(Mask::Exactly(mask)).unwrap();
}

/// Runs `body` on a bare thread, and waits for its end.
fn on_thread_with<K: Kernel + Sync>(process: &'static Process<K>, body: fn(&'static Process<K>)) {
    thread::run(STACK, (process, body), |(process, body)| body(process));
}

fn create_and_reads(ctx: &Ctx) {
    let config = hooked::config(ctx.env);
    let length = config.length();
    let calls = Calls::of(|| create_and_read(config));
    calls.expect("init", &[]);
    let create = |area| {
        [
            Call::mask(ALL),
            Call::register(area, length),
            Call::mask(BEFORE),
        ]
    };
    calls.expect("the first create", &create(&MAIN));
    calls.expect("ensure_registered", &[]);
    // Before Linux 6.3 the area has no node.
    let node: &[_] = match ctx.facts.feature_size {
        24.. => &[],
        _ => &[Call::GETCPU],
    };
    calls.expect("current_cpu, current_node, current_mm_cid", node);
    calls.expect("state, owner, length", &[]);
    calls.expect("lend and end", &[]);
    calls.expect("run_at_exit", &[]);
    calls.expect("a slice that is off", &[]);
    calls.expect("a wait for a cleared word", &[]);
    calls.expect("a later create", &create(&OTHER));
    calls.expect("create, masked", &[Call::register(&THIRD, length)]);
}

fn create_and_read(config: Config) {
    set_mask(BEFORE);
    let init = section("init", || RSEQ.init(config));
    assert_eq!(init, Ok(None));
    let thread = section("the first create", || RSEQ.create(&MAIN));
    let thread = thread.unwrap();
    let state = section("ensure_registered", || RSEQ.ensure(&MAIN));
    assert_eq!(state, Ok(thread.state()));
    section("current_cpu, current_node, current_mm_cid", || {
        let (cpu, node) = (RSEQ.current_cpu(&MAIN), RSEQ.current_node(&MAIN));
        (cpu.is_ok(), node.is_ok(), RSEQ.current_mm_cid(&MAIN))
    });
    section("state, owner, length", || {
        let lengths = (RSEQ.length(), RSEQ.feature_size());
        let thread = (thread.state(), MAIN.errno(), MAIN.cpu_id());
        (RSEQ.owner(), RSEQ.reason(), lengths, thread)
    });
    section("lend and end", || thread.lend().end());
    let callbacks = AtExit::<4>::new();
    section("run_at_exit", || thread.run_at_exit(&callbacks));
    let end = section("a slice that is off", || {
        let request = MAIN.request_slice();
        MAIN.yield_slice(request)
    });
    assert_eq!(end, SliceEnd::Off);
    let word = ClearTid::new();
    // SAFETY: the word is here, and nobody else writes it.
    unsafe { word.as_ptr().write_volatile(0) };
    let _ = section("a wait for a cleared word", || word.wait()).unwrap();
    on_thread(STACK, || {
        let thread = section("a later create", || RSEQ.create(&OTHER));
        let _ = thread.unwrap();
    });
    on_thread(STACK, || {
        let mask = SignalMask::block_all().unwrap();
        let thread = section("create, masked", || RSEQ.create_masked(&THIRD, &mask));
        let _ = thread.unwrap();
    });
}

fn chatty(ctx: &Ctx) {
    let config = hooked::config(ctx.env);
    let length = config.length();
    let calls = Calls::of(|| chatter(config));
    let create = [
        Call::mask(ALL),
        Call::register(&MAIN, length),
        Call::mask(BEFORE),
    ];
    let release = [Call::mask(ALL), Call::unregister(&MAIN, length)];
    calls.expect("honest create", &create);
    for name in ["one call more", "the mask opened", "never ran"] {
        assert!(!calls.are(name, &create), "{name} went unnoticed");
    }
    assert!(!calls.are("unregister first", &release));
    let other_length = [Call::mask(ALL), Call::unregister(&MAIN, length + 1)];
    assert!(!calls.are("honest release", &other_length));
    calls.expect("honest release", &release);
}

/// Deliberately wrong hooks, and two correct ones.
fn chatter(config: Config) {
    fn end(scoped: Result<Scoped<'_>, Error>) {
        scoped.unwrap().end().unwrap();
    }
    set_mask(BEFORE);
    init_with(config);
    end(section("honest create", || RSEQ.scope(&MAIN)));
    end(section("one call more", || {
        process::gettid();
        RSEQ.scope(&MAIN)
    }));
    section("the mask opened", || {
        let mask = SignalMask::block_all().unwrap();
        // SAFETY: as above.
        unsafe {
            let _ = RSEQ.on_thread_create_masked(&MAIN, &mask);
        }
        set_mask(0);
    });
    set_mask(BEFORE);
    let thread = RSEQ.thread_of(&MAIN).unwrap();
    section("unregister first", || {
        // SAFETY: assume_blocked (1) violated: that is the bug of this variant.
        let mask = unsafe { SignalMask::assume_blocked(0) };
        let gone = hooked::release_masked(thread, &mask).unwrap();
        let _ = SignalMask::block_all();
        // SAFETY: recycle_area (1) no handler is installed.
        unsafe { gone.recycle_area() };
    });
    let thread = RSEQ.create(&MAIN).unwrap();
    let _ = section("honest release", || hooked::release(thread)).unwrap();
}
