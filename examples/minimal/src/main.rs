//! A runtime without libc: `cargo run --package minimal`.
//!
//! The main thread starts one thread that it joins and one that is detached and unmaps the stack it runs on. Each
//! counts requests on its current CPU, without atomics. Copy it to start your own runtime.

#![no_std]
#![no_main]

mod arch;
mod brought;
mod sys;

use core::fmt::Write as _;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Release};

use rseq_rt::percpu::Slots;
use rseq_rt::structures::{Counter, CounterSlot, CpuSet};
use rseq_rt::{
    Area, AtExit, Claim, ClearTid, ClearTidPlace, Config, Deferred, ExitMode, Process, SignalMask,
    Thread,
};

use crate::sys::Console;

static RSEQ: Process = Process::new();
/// Stacks whose release was refused; later threads unmap them.
static DEFERRED: Deferred = Deferred::new();

/// The length of a stack's mapping.
const STACK: usize = 64 * 1024;
const REQUESTS: usize = 1000;

/// A thread's control block. It lies at the top of the thread's stack, and is unmapped with it.
#[repr(C)]
struct Tcb {
    area: Area,
    at_exit: AtExit<8>,
    clear_tid: ClearTid,
    /// The mask of the thread that started it.
    mask: u64,
    stack: *mut u8,
    detached: bool,
    work: &'static Work,
}

/// The data shared by the threads.
struct Work {
    requests: Counter<'static>,
    /// Threads that have finished using it.
    done: AtomicU32,
}

/// Called by `_start`, with the stack as the kernel has set it up.
///
/// # Safety
/// 1. Once, on the main thread; `stack` is the stack pointer as the kernel set it.
unsafe extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: from_auxv (1): (1).
    let config = unsafe { Config::from_auxv(sys::auxv(stack)) };
    // No libc: no other owner is looked for, and the thread pointer is never read.
    RSEQ.init(config.claim(Claim::Runtime))
        .expect("called once");
    // This frame stays valid: `start` never returns.
    let area = Area::new();
    // SAFETY: on_thread_create (1, 2): the main thread's, until the process ends.
    let thread = unsafe { RSEQ.on_thread_create(&area) }.expect("called once");
    // Once, before the first section: not every kernel aborts them.
    RSEQ.allow_sections();

    let work = Work {
        requests: Counter::over(slots()),
        done: AtomicU32::new(0),
    };
    // SAFETY: this frame outlives every thread.
    let work: &'static Work = unsafe { &*core::ptr::from_ref(&work) };
    // SAFETY: spawn (1): it is joined below.
    let joinable = unsafe { spawn(false, work) };
    // SAFETY: spawn (1): detached.
    unsafe { spawn(true, work) };
    serve(&thread, work);
    // SAFETY: spawn's block stays until it is unmapped here.
    let (clear_tid, stack) = unsafe { (&(*joinable).clear_tid, (*joinable).stack) };
    let ended = clear_tid.wait().expect("no filter refuses futex(2)");
    // SAFETY: unmap (1): the mapping of that thread.
    unsafe { ended.unmap(stack, STACK) }.expect("it was mapped");
    while work.done.load(Acquire) < 3 {
        sys::sched_yield();
    }

    let mut report = [0; 1024];
    let length = RSEQ.report(&area).write_to(&mut report);
    Console.write(report.get(..length).unwrap_or(&report));
    let cpu = RSEQ.current_cpu(&area).unwrap_or(u32::MAX);
    let sum = work.requests.sum();
    let _ = writeln!(Console, "{sum} requests of 3 threads, counted on CPU {cpu}");
    // exit_group(2) needs no hook.
    sys::exit_group(i32::from(sum != 3 * REQUESTS))
}

/// A slot for each possible CPU number.
fn slots() -> Slots<'static, rseq_rt::percpu::CpuId, CounterSlot> {
    let count = CpuSet::bound().unwrap_or(1);
    let slots = sys::map(count * size_of::<CounterSlot>()).cast::<CounterSlot>();
    // SAFETY: from_raw (1, 2): new memory, and zero is the value of a slot; it is never unmapped.
    unsafe { Slots::from_raw(slots, size_of::<CounterSlot>(), count) }.expect("whole pages")
}

/// # Safety
/// 1. The block is used after the thread's start only where it is not detached, and until its stack is unmapped.
unsafe fn spawn(detached: bool, work: &'static Work) -> *const Tcb {
    let stack = sys::map(STACK);
    // No signal arrives in the child before it is registered.
    let mask = SignalMask::block_all().expect("no filter refuses rt_sigprocmask(2)");
    let tcb = stack.wrapping_add(STACK - size_of::<Tcb>()).cast::<Tcb>();
    // SAFETY: the top of a new mapping, whose length and the block's are multiples of its alignment.
    unsafe {
        tcb.write(Tcb {
            area: Area::new(),
            at_exit: AtExit::new(),
            clear_tid: ClearTid::new(),
            mask: mask.previous(),
            stack,
            detached,
            work,
        });
    }
    let top = tcb.cast::<*mut Tcb>().wrapping_sub(2);
    // SAFETY: below the block. arch::clone (1): a stack of its own; (2): in the block.
    let answer = unsafe {
        top.write(tcb);
        arch::clone(sys::CLONE_FLAGS, top, (*tcb).clear_tid.as_ptr())
    };
    assert!(answer > 0, "clone(2)");
    mask.restore().expect("it was set before");
    tcb
}

/// The first function of a thread.
///
/// # Safety
/// 1. `tcb` is the calling thread's; its signals are blocked.
unsafe extern "C" fn thread_main(tcb: *mut Tcb) -> ! {
    // SAFETY: (1): it is this thread's until the thread ends.
    let tcb: &Tcb = unsafe { &*tcb };
    // SAFETY: assume_blocked (1): (1). on_thread_create_masked (1, 2): the thread's own area.
    let (mask, thread) = unsafe {
        let mask = SignalMask::assume_blocked(tcb.mask);
        let thread = RSEQ.on_thread_create_masked(&tcb.area, &mask);
        (mask, thread.expect("called once"))
    };
    mask.restore().expect("it was set before");

    serve(&thread, tcb.work);

    thread.run_at_exit(&tcb.at_exit);
    let (stack, detached) = (tcb.stack, tcb.detached);
    if detached {
        let exit = thread.on_exit(ExitMode::Release);
        // SAFETY: Exit::unmap_and_exit (1, 2, 5): nobody knows of this mapping; (3): no robust list; (4).
        unsafe { exit.unmap_and_exit(stack, STACK, ClearTidPlace::Inside, &DEFERRED, 0) }
    }
    // SAFETY: Kept::exit (1): nothing here needs to be dropped. The joiner unmaps the stack.
    unsafe { thread.on_exit(ExitMode::Keep).into_kept().exit(0) }
}

/// The work of a thread of this program.
fn serve(thread: &Thread<'_>, work: &Work) {
    for _ in 0..REQUESTS {
        // SAFETY: Thread::current (1): used at once.
        work.requests.add(unsafe { thread.current() }, 1);
    }
    work.done.fetch_add(1, Release);
}
