//! rseq-rt under origin, a runtime without libc: `embed` is the embedding, and this program tests it.
//!
//! ```text
//! cargo run --release --manifest-path examples/origin/Cargo.toml -- [--threads N] [--rounds N] [--expect-unavailable]
//! ```
//!
//! Each round starts N threads that are joined, N that are detached, and N that are detached after they have exited.
//! Exit status 0: each of them was registered, agreed with getcpu(2) to the end and exited correctly. As PID 1 it
//! powers the machine off instead, and the last line is the verdict.
#![no_std]
#![no_main]

extern crate alloc;

mod console;
mod embed;
mod ledger;
mod tls;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicUsize};

use origin::thread;
use rseq_rt::structures::CpuSet;
use rseq_rt::{Area, Kernel, Linux, Owner, State};
use rustix::system::RebootCommand;

use crate::embed::{Handle, RSEQ};

#[global_allocator]
static HEAP: rustix_dlmalloc::GlobalDlmalloc = rustix_dlmalloc::GlobalDlmalloc;

/// Threads whose create hook registered them.
static REGISTERED: AtomicUsize = AtomicUsize::new(0);
/// Threads that agreed with getcpu(2) on each CPU.
static AGREED: AtomicUsize = AtomicUsize::new(0);
/// Threads that agreed in an at-exit function of their own as well.
static AGREED_LAST: AtomicUsize = AtomicUsize::new(0);
/// A gate, closed while the detached threads of a round must live.
static GATE_IS_OPEN: AtomicBool = AtomicBool::new(false);

/// The kind of a thread's end: the argument of its body.
const JOINED: usize = 0;
const DETACHED: usize = 1;
const DETACHED_LATE: usize = 2;

/// Called by origin.
#[unsafe(no_mangle)]
unsafe fn origin_main(argc: usize, argv: *mut *mut u8, envp: *mut *mut u8) -> i32 {
    // SAFETY: adopt_main (1).
    let adopted = unsafe { embed::adopt_main(envp) };
    let argument = |index: usize| {
        // SAFETY: argc strings.
        (index < argc).then(|| unsafe { CStr::from_ptr(argv.add(index).read().cast()) })
    };
    let find = |name: &CStr| (1..argc).find(|&index| argument(index) == Some(name));
    let number = |name: &CStr, otherwise| match find(name) {
        Some(index) => argument(index + 1)
            .and_then(|word| word.to_str().ok())
            .and_then(|word| word.parse().ok()),
        None => Some(otherwise),
    };
    let verdict = match (adopted, number(c"--threads", 8), number(c"--rounds", 1)) {
        (Err(_), ..) => Err("the main thread's create hook"),
        (Ok(main), Some(threads @ 1..=64), Some(rounds @ 1..)) => {
            let expect_registered = find(c"--expect-unavailable").is_none();
            run(main, threads, rounds, expect_registered)
        }
        _ => Err("--threads wants 1 to 64, --rounds 1 or more"),
    };
    match verdict {
        Ok(()) => console::put(format_args!("passed")),
        Err(why) => console::put(format_args!("failed: {why}")),
    }
    if rustix::process::getpid().is_init() {
        console::drain();
        let _ = rustix::system::reboot(RebootCommand::PowerOff);
    }
    i32::from(verdict.is_err())
}

fn run(
    main: &Area,
    threads: usize,
    rounds: usize,
    expect_registered: bool,
) -> Result<(), &'static str> {
    observe(main);
    console::put(format_args!(
        "rseq-rt under origin: owner {:?}, length {}, main {:?}",
        RSEQ.owner(),
        RSEQ.length(),
        main.state()
    ));
    for _ in 0..rounds {
        round(threads)?;
    }
    let count = |counter: &AtomicUsize| counter.load(Relaxed);
    let (kept, released) = (count(&ledger::KEPT), count(&ledger::RELEASED));
    let of_each_kind = threads * rounds;
    let all = 1 + 3 * of_each_kind;
    console::put(format_args!(
        "threads {all}, registered {}, agreed {}, at exit {}, kept {kept}, released {released}",
        count(&REGISTERED),
        count(&AGREED),
        count(&AGREED_LAST),
    ));
    let checks = [
        (count(&ledger::BROKEN) == 0, "a hook was out of order"),
        (
            count(&REGISTERED) == if expect_registered { all } else { 0 },
            "not every thread was registered as expected",
        ),
        (
            count(&AGREED) == all,
            "a thread read another CPU than getcpu(2)",
        ),
        (
            count(&AGREED_LAST) == all - 1,
            "so did one, while it was leaving",
        ),
        (
            count(&ledger::STILL_THERE) == 0,
            "a thread was still registered after its release",
        ),
        (
            kept == 2 * of_each_kind && released == of_each_kind,
            "a thread left the wrong way",
        ),
    ];
    let failed = checks.into_iter().find(|&(holds, _)| !holds);
    failed.map_or(Ok(()), |(_, why)| Err(why))
}

fn round(threads: usize) -> Result<(), &'static str> {
    GATE_IS_OPEN.store(false, Relaxed);
    let start = |kind| {
        let started: Result<Vec<Handle>, _> =
            (0..threads).map(|_| embed::spawn(body, kind)).collect();
        started.map_err(|_| "a thread did not start")
    };
    let (joined, detached, late) = (start(JOINED)?, start(DETACHED)?, start(DETACHED_LATE)?);
    let mut tids = Vec::new();
    for handle in detached {
        tids.push(handle.tid().ok_or("a thread was gone too early")?);
        handle.detach();
    }
    // Now each of them knows that it must release when it exits.
    GATE_IS_OPEN.store(true, Release);
    for handle in late {
        while !handle.has_left() {
            thread::yield_current();
        }
        handle.detach();
    }
    joined.into_iter().for_each(Handle::join);
    for tid in tids {
        while lives(tid) {
            thread::yield_current();
        }
    }
    Ok(())
}

fn body(area: &Area, kind: usize) {
    observe(area);
    // Only `leave` comes after this one.
    thread::at_exit(Box::new(|| {
        // SAFETY: area (1): before `leave`.
        let area = unsafe { tls::area() };
        let agreed = !matches!(area.state(), State::Exiting) && agrees(area);
        AGREED_LAST.fetch_add(usize::from(agreed), Relaxed);
    }));
    while kind == DETACHED && !GATE_IS_OPEN.load(Acquire) {
        thread::yield_current();
    }
}

fn observe(area: &Area) {
    let registered = area.state() == State::Registered(Owner::Runtime);
    REGISTERED.fetch_add(usize::from(registered), Relaxed);
    AGREED.fetch_add(usize::from(agrees(area)), Relaxed);
}

/// Moves to each allowed CPU, and compares on it.
fn agrees(area: &Area) -> bool {
    // Not rustix's set: it has room for 1024 CPUs.
    let Ok(allowed) = CpuSet::allowed() else {
        return false;
    };
    let mut agreed = true;
    for cpu in allowed.iter() {
        let moved = CpuSet::one(cpu).allow();
        let asked = Linux.getcpu().map(|(cpu, _)| cpu);
        let here = RSEQ.current_cpu(area) == Ok(cpu) && asked == Ok(cpu);
        agreed &= moved.is_ok() && here;
    }
    agreed & allowed.allow().is_ok()
}

/// Whether the thread still exists in this process.
fn lives(tid: i32) -> bool {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: tgkill(2) with signal 0 has no effect.
    let asked = unsafe { sc::syscall3(sc::nr::TGKILL, pid as usize, tid as usize, 0) };
    asked == 0
}
