//! The harness on incorrect tests, each of which must be detected.

use core::hint::black_box;

use linux_raw_sys::prctl::PR_SET_CHILD_SUBREAPER;

use crate::harness::{Ctx, Kind, Test, forked, judge, skip};
use crate::sys::process;
use crate::sys::signal::{self, Mask};
use crate::sys::time::{self, Span};
use crate::thread;

#[rustfmt::skip] // a table
pub const TESTS: &[Test] = &[
    Test::new("harness-sees-a-failure", |ctx| assert_fails(ctx, Test::new("", fails), "seven is 7 (tests-qemu")),
    Test::new("harness-sees-a-crash", |ctx| assert_fails(ctx, Test::new("", crashes), "killed by SIGSEGV")),
    Test::new("harness-ends-a-hang", |ctx| assert_fails(ctx, Test::new("", hangs).limit(1), "not done after ")),
    Test::new("harness-sees-a-thread-fail", |ctx| assert_fails(ctx, Test::new("", in_thread), "a thread's word")),
    Test::new("harness-sees-a-child-fail", |ctx| assert_fails(ctx, Test::new("", in_child), "a child's word")),
    Test::new("harness-sees-an-early-exit", |ctx| assert_fails(ctx, Test::new("", leaves), "exited with 5")),
    Test::new("harness-takes-a-skip", takes_a_skip),
    Test::new("harness-ends-what-is-left", ends_what_is_left),
];

fn assert_fails(ctx: &Ctx<'_>, test: Test, words: &str) {
    let (kind, text) = judge(&test, ctx).unwrap();
    assert!(kind == Kind::Failed, "a test that is wrong did not fail");
    assert!(text.bytes().starts_with(words.as_bytes()), "{text}");
}

fn fails(_: &Ctx<'_>) {
    let seven = black_box(7);
    assert!(seven == 8, "seven is {seven}");
}

fn crashes(_: &Ctx<'_>) {
    process::no_core_dump();
    super::kernel::crash();
}

/// With all signals blocked, so that only SIGKILL helps.
fn hangs(_: &Ctx<'_>) {
    signal::mask(Mask::Exactly(u64::MAX)).unwrap();
    loop {
        let _ = time::sleep(Span::secs(100));
    }
}

fn in_thread(_: &Ctx<'_>) {
    let thread = thread::start(super::STACK, (), |()| panic!("a thread's word"));
    thread.unwrap().join().unwrap();
}

fn in_child(_: &Ctx<'_>) {
    forked(|| panic!("a child's word")).unwrap();
}

fn leaves(_: &Ctx<'_>) {
    process::exit_group(5)
}

fn takes_a_skip(ctx: &Ctx<'_>) {
    fn skips(_: &Ctx<'_>) {
        skip!("of that")
    }
    let (kind, text) = judge(&Test::new("", skips), ctx).unwrap();
    assert!(kind == Kind::Skipped, "not skipped: {text}");
    assert_eq!(text.bytes(), b"of that");
}

fn ends_what_is_left(ctx: &Ctx<'_>) {
    fn leaves_a_child(_: &Ctx<'_>) {
        // SAFETY: the child needs nothing from other threads.
        if unsafe { process::fork() }.unwrap() == 0 {
            let _ = time::sleep(Span::secs(1000));
            process::exit_group(0);
        }
    }
    // An orphan is adopted by the nearest reaper, here this process.
    // SAFETY: no pointer among the arguments.
    let reaper = unsafe { process::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let (kind, text) = judge(&Test::new("", leaves_a_child), ctx).unwrap();
    assert!(kind == Kind::Passed, "{text}");
    if reaper.is_ok() {
        assert!(process::wait_now(-1).is_err(), "a process is left");
    }
}
