//! The harness on tests that are wrong: each must be found out.

use core::hint::black_box;

use crate::harness::{Ctx, Kind, PASSED, Test, Verdict, failed, forked, judge};
use crate::sys::process;
use crate::sys::signal::{self, Mask};
use crate::sys::time::{self, Span};
use crate::{check, skip, text, thread};

/// The suite's tests of its harness.
pub const TESTS: &[Test] = &[
    Test::new("harness-sees-a-failure", |ctx| {
        found_out(ctx, fails, b"seven is 7 (tests-qemu")
    }),
    Test::new("harness-sees-a-crash", |ctx| {
        found_out(ctx, crashes, b"killed by SIGSEGV")
    }),
    Test::new("harness-ends-a-hang", |ctx| {
        let test = Test::new("hangs", hangs).limit(1);
        judged(ctx, &test, b"not done after ")
    }),
    Test::new("harness-sees-a-thread-fail", |ctx| {
        found_out(ctx, in_thread, b"a thread's word")
    }),
    Test::new("harness-sees-a-child-fail", |ctx| {
        found_out(ctx, in_child, b"a child's word")
    }),
    Test::new("harness-sees-an-early-exit", |ctx| {
        found_out(ctx, leaves, b"exited with 5")
    }),
    Test::new("harness-takes-a-skip", takes_a_skip),
    Test::new("harness-ends-what-is-left", ends_what_is_left),
];

fn found_out(ctx: &Ctx, run: fn(&Ctx) -> Verdict, words: &[u8]) -> Verdict {
    judged(ctx, &Test::new("wrong", run), words)
}

fn judged(ctx: &Ctx, test: &Test, words: &[u8]) -> Verdict {
    let (kind, text) = judge(test, ctx)?;
    check!(
        kind == Kind::Failed,
        "a test that is wrong did not fail: ",
        text
    );
    check!(
        text.bytes().starts_with(words),
        "it failed with other words: ",
        text
    );
    PASSED
}

fn fails(_: &Ctx) -> Verdict {
    let seven = black_box(7);
    check!(seven == 8, "seven is ", seven);
    PASSED
}

fn crashes(_: &Ctx) -> Verdict {
    process::no_core_dump();
    super::kernel::crash();
    PASSED
}

/// With all signals blocked, so that only a kill helps.
fn hangs(_: &Ctx) -> Verdict {
    signal::mask(Mask::Exactly(u64::MAX))?;
    loop {
        let _ = time::sleep(Span::secs(100));
    }
}

fn in_thread(_: &Ctx) -> Verdict {
    thread::start(super::STACK, (), |()| _ = failed(text!("a thread's word")))?.join()?;
    PASSED
}

fn in_child(_: &Ctx) -> Verdict {
    forked(|| _ = failed(text!("a child's word")))?;
    PASSED
}

fn leaves(_: &Ctx) -> Verdict {
    process::exit_group(5)
}

fn takes_a_skip(ctx: &Ctx) -> Verdict {
    let (kind, text) = judge(&Test::new("skips", |_| skip!("of that")), ctx)?;
    check!(
        kind == Kind::Skipped && text.bytes() == b"of that",
        "not skipped: ",
        text
    );
    PASSED
}

fn ends_what_is_left(ctx: &Ctx) -> Verdict {
    fn leaves_a_child(_: &Ctx) -> Verdict {
        // SAFETY: the child needs nothing of anybody.
        if unsafe { process::fork()? } == 0 {
            let _ = time::sleep(Span::secs(1000));
            process::exit_group(0);
        }
        PASSED
    }
    // An orphan comes to the nearest reaper, here this process.
    // SAFETY: no pointer among the arguments.
    let reaper =
        unsafe { process::prctl(linux_raw_sys::prctl::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let (kind, text) = judge(&Test::new("leaves", leaves_a_child), ctx)?;
    check!(kind == Kind::Passed, text);
    if reaper.is_ok() {
        let left = process::wait_now(-1);
        check!(left.is_err(), "a process is left");
    }
    PASSED
}
