//! A panic anywhere in a test is a failure with its message, and ends the process with 101.

use linux_raw_sys::general::{SIGUSR1, siginfo_t};

use crate::harness::{Ctx, Kind, Needs, Test, judge, vforked};
use crate::stack::Stack;
use crate::sys::process::{self, Status};
use crate::sys::signal;
use crate::{signals, thread};

pub const TESTS: &[Test] = &[
    Test::new("harness-sees-a-panic", |ctx| is_seen(ctx, in_thread)),
    Test::new("harness-sees-a-panic-in-a-handler", |ctx| {
        is_seen(ctx, in_handler);
    }),
    Test::new("harness-sees-a-panic-in-a-vfork-child", |ctx| {
        is_seen(ctx, in_vfork_child);
    })
    .needs(Needs::REAL_KERNEL),
];

/// The smallest stack of any test.
const STACK: usize = 16 * 1024;

#[track_caller]
fn is_seen(ctx: &Ctx, test: fn(&Ctx<'_>)) {
    let (kind, text) = judge(&Test::new("panics", test), ctx).unwrap();
    assert!(kind == Kind::Failed, "{text}");
    let text = core::str::from_utf8(text.bytes()).unwrap();
    let words = "assertion `left == right` failed: a number,  left: 7, right: 8 (tests-qemu";
    assert!(text.starts_with(words), "{text}");
}

fn panics() {
    let seven = core::hint::black_box(7);
    assert_eq!(seven, 8, "a number");
}

fn in_thread(_: &Ctx<'_>) {
    thread::run(STACK, (), |()| panics());
}

/// On the stack of the interrupted code.
fn in_handler(_: &Ctx<'_>) {
    unsafe extern "C" fn handler(_: i32, _: *mut siginfo_t, _: *mut u8) {
        panics();
    }
    // SAFETY: handle (1) it ends the process.
    unsafe { signals::handle(SIGUSR1 as i32, handler, 0) }.unwrap();
    let hit = |(): &()| signal::kill_thread(process::gettid(), SIGUSR1 as i32).unwrap();
    thread::run(STACK, (), hit);
}

/// The parent goes on after it.
fn in_vfork_child(_: &Ctx<'_>) {
    let status = vforked(Stack::map(STACK).unwrap(), panics);
    assert_eq!(status, Ok(Status::Exited(101)));
}
