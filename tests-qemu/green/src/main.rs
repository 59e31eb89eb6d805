//! `green-tests test|wc`: the tests of `examples/green`, and its word count for a machine that then powers off.
#![no_std]
#![no_main]

extern crate alloc;

mod idle;
mod life;
mod migrate;
mod queues;
mod steals;

use alloc::vec::Vec;

use green::arguments::Arguments;
use green::carrier::{self, Exit};
use green::green::Handle;
use green::queue::RunQueue;
use green::runtime::Runtime;
use guests::entry::Env;
use guests::errno::Errno;
use guests::harness::{self, Ctx, Test, run_suite};
use guests::sys::process;
use guests::sys::sched::{self, CpuSet};
use guests::sys::time::{self, Span};
use guests::{entry, println};
use rseq_rt::{Error, Thread};

entry!(main, harness::panic);

fn main(env: &Env) -> i32 {
    match env.args().nth(1) {
        Some(b"test") => run_suite(env, SUITES),
        Some(b"wc") => {
            let arguments: Vec<_> = env.args().collect();
            // SAFETY: adopt_main (1): once, on the main thread.
            let _ = unsafe { adopt_main(env) }.unwrap();
            green::count::main(Arguments(&arguments))
        }
        _ => {
            println!("green-tests test | green-tests wc PATH");
            2
        }
    }
}

/// `alloc` was compiled for unwinding and refers to it. Nothing unwinds under `panic = "abort"`.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Likewise.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    process::exit_group(101)
}

const SUITES: &[&[Test]] = &[
    queues::TESTS,
    steals::TESTS,
    life::TESTS,
    idle::TESTS,
    migrate::TESTS,
];

/// Gives the main thread a carrier's block.
///
/// # Safety
/// 1. Once in a process, on its main thread.
unsafe fn adopt_main(env: &Env) -> Result<Thread<'static>, Error> {
    // SAFETY: adopt_main (1): (1); (2): carriers are started later; (3): the kernel's vector; (4): the harness has no
    // thread-local storage.
    unsafe { carrier::adopt_main(env.auxv_ptr().cast()) }
}

/// A runtime in the test's process, with `carriers` running carriers.
fn runtime<Q: RunQueue>(ctx: &Ctx<'_>, capacity: usize, carriers: u32) -> &'static Runtime<Q> {
    // SAFETY: adopt_main (1) each test has its own process, and this is its main thread.
    let _ = unsafe { adopt_main(ctx.env) }.unwrap();
    let runtime = Runtime::<Q>::leak(capacity);
    for number in 0..carriers {
        // Both exits of a carrier occur in each test.
        let exit = if number % 2 == 0 {
            Exit::Joinable
        } else {
            Exit::Detached
        };
        runtime.start_carrier(exit).unwrap();
    }
    wait_until(|| runtime.tids().count() == carriers as usize);
    runtime
}

/// Starts a green thread. What those of the tests keep across their switches is no kernel thread's, but for the carrier of
/// a broken variant.
fn spawn<Q: RunQueue>(runtime: &Runtime<Q>, body: impl FnOnce() + Send + 'static) -> Handle {
    // SAFETY: spawn (1) as said.
    unsafe { runtime.spawn(body) }.unwrap()
}

/// Pins the carriers to the allowed CPUs, one after the other and round again.
fn pin<Q: RunQueue>(runtime: &Runtime<Q>) {
    let cpus = sched::allowed().unwrap();
    let count = cpus.count().max(1) as usize;
    for (at, (_, tid)) in runtime.tids().enumerate() {
        let cpu = cpus.iter().nth(at % count).unwrap();
        sched::allow(tid, &CpuSet::one(cpu)).unwrap();
    }
}

/// Waits for other threads. Only the harness limits the time.
fn wait_until(done: impl Fn() -> bool) {
    while !done() {
        match time::sleep(Span::micros(200)) {
            Ok(()) | Err(Errno::INTR) => {}
            Err(why) => panic!("sleep: {why}"),
        }
    }
}
