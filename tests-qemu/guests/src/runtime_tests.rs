//! The runtime's tests of itself: a storm that does not blow, or a watchdog
//! that does not bite, would make every test on top of it worthless.

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::Relaxed};
use linux_raw_sys::general::{__NR_getppid, SIGSEGV, SIGUSR1, SIGUSR2, siginfo_t};

use crate::errno::Errno;
use crate::harness::{Ctx, Needs, PASSED, Test, Verdict, expect_killed_by, failed, forked};
use crate::seccomp::{self, Answer, When};
use crate::signals::{self, Storm, Timer};
use crate::stack::Stack;
use crate::sys::process::{self, Status};
use crate::sys::signal::{self, Mask};
use crate::sys::time::{self, Span};
use crate::sys::{mm, sched};
use crate::tcb::{self, Tcb};
use crate::thread::{self, Run};
use crate::trace::{Event, Tracee};
use crate::{check, passed, text};

/// All of them.
pub const TESTS: &[Test] = &[
    Test::new("runtime-memory", memory),
    Test::new("runtime-threads-joined-and-unmapped", threads),
    Test::new("runtime-block-outside-the-stack", block_outside),
    Test::new("runtime-block-in-handler", block_in_handler),
    Test::new("runtime-timer-storm", timer_storm),
    Test::new("runtime-tgkill-storm", tgkill_storm),
    Test::new("runtime-death-is-seen", death),
    Test::new("runtime-guard-page", guard_page),
    Test::new("runtime-vfork", vfork).needs(Needs::REAL_KERNEL),
    Test::new("runtime-seccomp-answers", filter).needs(Needs::SECCOMP),
    Test::new("runtime-ptrace-counts-calls", counted).needs(Needs::PTRACE),
    Test::new("runtime-affinity-moves", affinity).needs(Needs::NOTHING.cpus(2)),
];

const STACK: usize = 32 * 1024;

fn memory(_: &Ctx) -> Verdict {
    let source: [u8; 200] = core::array::from_fn(|n| n as u8);
    for (to, from, len) in [(0, 0, 200), (1, 3, 64), (8, 16, 100), (17, 1, 0), (5, 9, 7)] {
        for overlapping in [false, true] {
            let mut place = source;
            let expected = |n: usize| (n.wrapping_sub(to) < len).then(|| (n - to + from) as u8);
            let at = place.as_mut_ptr();
            let read = if overlapping {
                at.cast_const()
            } else {
                source.as_ptr()
            };
            // SAFETY: inside the arrays; the non-overlapping one is memcpy's.
            unsafe {
                match overlapping {
                    true => crate::mem::memmove(at.add(to), read.add(from), len),
                    false => crate::mem::memcpy(at.add(to), read.add(from), len),
                };
            }
            for (n, &byte) in place.iter().enumerate() {
                check!(
                    byte == expected(n).unwrap_or(n as u8),
                    "byte ",
                    n,
                    " is ",
                    byte
                );
            }
        }
    }
    // SAFETY: inside the array.
    let (less, same) = unsafe {
        let at = source.as_ptr();
        (
            crate::mem::memcmp(at, at.add(1), 10),
            crate::mem::bcmp(at, at, 200),
        )
    };
    check!(less < 0 && same == 0, "memcmp says ", less, " and ", same);
    PASSED
}

fn threads(ctx: &Ctx) -> Verdict {
    static RAN: AtomicU64 = AtomicU64::new(0);
    fn body(number: &u64) {
        let here = tcb::current();
        let own = here
            .payload::<Run<u64>>()
            .is_some_and(|run| run.payload == *number);
        if !own || here.tid.load(Relaxed) != process::gettid() {
            let _ = failed(text!("thread ", *number, " has another's block"));
        }
        RAN.fetch_add(1, Relaxed);
    }
    let rounds = ctx.scale(100, 20, 5);
    for _ in 0..rounds {
        // Twenty at a time, as much as fits the stack of this thread.
        let started: [_; 20] = core::array::from_fn(|n| thread::start(STACK, n as u64, body));
        for thread in started {
            thread?.join()?;
        }
    }
    check!(
        RAN.load(Relaxed) == rounds * 20,
        "only ",
        RAN.load(Relaxed),
        " ran"
    );
    // Unmapped, not only forgotten: such a mapping can be made again at the same place.
    let stack = Stack::map(STACK)?;
    // SAFETY: no thread runs on it.
    unsafe { stack.unmap()? };
    // SAFETY: nothing is there, and that is what it answers.
    let gone = unsafe { mm::protect(stack.base(), stack.len(), mm::Access::Read) };
    check!(gone == Err(Errno::NOMEM), "still mapped: ", gone);
    passed!(rounds * 20, " threads")
}

#[repr(align(256))]
struct Aligned(AtomicU32);

fn block_outside(_: &Ctx) -> Verdict {
    unsafe extern "C" fn run(arg: *mut u8) -> ! {
        // SAFETY: the block that was given below.
        let block = unsafe { &*arg.cast::<Tcb<Aligned>>() };
        block.payload.0.store(process::gettid(), Relaxed);
        process::exit_thread(0)
    }
    let stack = Stack::map(STACK)?;
    let block = Tcb::outside(stack, Aligned(AtomicU32::new(0)))?;
    // SAFETY: a new stack and a new block, both there until the join; the word
    // is in the block.
    let (tid, seen) = unsafe {
        let head = &raw mut (*block).head;
        let tid = thread::spawn(stack.top(), head, (*head).alive.as_ptr(), run, block.cast())?;
        thread::join(&(*head).alive);
        stack.unmap()?;
        (tid, (*block).payload.0.load(Relaxed))
    };
    check!(tid == seen, "thread ", tid, " wrote ", seen);
    check!(block.addr() % 256 == 0, "the block is at ", block);
    // SAFETY: made by `outside`, and the thread is gone.
    unsafe { Tcb::unmap(block)? };
    PASSED
}

static HITS: AtomicU64 = AtomicU64::new(0);
static HANDLER_BLOCK: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());

unsafe extern "C" fn note_block(_: i32, _: *mut siginfo_t, _: *mut u8) {
    let here = tcb::current();
    HANDLER_BLOCK.store((&raw const *here).cast::<u8>().cast_mut(), Relaxed);
    HITS.fetch_add(1, Relaxed);
}

fn block_in_handler(_: &Ctx) -> Verdict {
    // SAFETY: the handler only stores to atomics.
    unsafe { signals::handle(SIGUSR1 as i32, note_block, 0)? };
    fn body(_: &()) {
        let own = (&raw const *tcb::current()).cast::<u8>().cast_mut();
        let sent = signal::kill_thread(process::gettid(), SIGUSR1 as i32);
        // A signal to oneself comes before the call returns.
        let seen = HANDLER_BLOCK.load(Relaxed);
        if sent.is_err() || seen != own {
            let _ = failed(text!(
                "the handler saw ",
                seen,
                ", the thread ",
                own,
                ", ",
                sent
            ));
        }
    }
    for _ in 0..10 {
        thread::start(STACK, (), body)?.join()?;
    }
    body(&());
    check!(
        HITS.load(Relaxed) == 11,
        HITS.load(Relaxed),
        " handlers ran"
    );
    PASSED
}

/// Waits until the counter has come so far; fails after ten seconds.
fn reached(counter: &AtomicU64, goal: u64) -> bool {
    let end = time::now().0 + Span::secs(10).0;
    while counter.load(Relaxed) < goal && time::now().0 < end {
        sched::relax();
    }
    counter.load(Relaxed) >= goal
}

fn timer_storm(ctx: &Ctx) -> Verdict {
    let goal = ctx.scale(1000, 200, 50);
    // SAFETY: the handler only stores to atomics.
    unsafe { signals::handle(SIGUSR1 as i32, note_block, 0)? };
    let timer = Timer::every(
        Span::micros(ctx.scale(200, 2000, 2000)),
        process::gettid(),
        SIGUSR1 as i32,
    )?;
    check!(
        reached(&HITS, goal),
        "only ",
        HITS.load(Relaxed),
        " of ",
        goal
    );
    drop(timer);
    let after = HITS.load(Relaxed);
    time::sleep(Span::millis(20))?;
    let late = HITS.load(Relaxed) - after;
    check!(late <= 1, late, " signals after the end of the timer");
    passed!(after, " signals")
}

fn tgkill_storm(ctx: &Ctx) -> Verdict {
    const THREADS: usize = 4;
    static TARGETS: [AtomicU32; THREADS] = [const { AtomicU32::new(0) }; THREADS];
    fn body(goal: &u64) {
        let _ = reached(&HITS, *goal);
    }
    let goal = ctx.scale(2000, 300, 100);
    // SAFETY: the handler only stores to atomics.
    unsafe { signals::handle(SIGUSR2 as i32, note_block, 0)? };
    let storm = Storm::start(&TARGETS, SIGUSR2 as i32, Span::micros(50))?;
    let threads: [_; THREADS] = core::array::from_fn(|_| thread::start(STACK, goal, body));
    for (thread, target) in threads.iter().zip(&TARGETS) {
        target.store(thread.as_ref().map_or(0, |thread| thread.tid()), Relaxed);
    }
    for thread in threads {
        thread?.join()?;
    }
    let sent = storm.stop()?;
    let hits = HITS.load(Relaxed);
    check!(
        hits >= goal,
        "only ",
        hits,
        " of ",
        goal,
        " hits, ",
        sent,
        " sent"
    );
    let blocked = signal::blocked()?;
    check!(
        blocked == 0,
        "the mask is ",
        crate::show::Hex(blocked),
        " after the storm"
    );
    passed!(sent, " signals sent")
}

fn crash() {
    let nothing = core::ptr::without_provenance_mut::<u8>(8);
    // SAFETY: not at all: this is the variant that must die.
    unsafe { nothing.write_volatile(1) };
}

fn death(_: &Ctx) -> Verdict {
    expect_killed_by(SIGSEGV as i32, crash)?;
    let status = forked(|| process::exit_group(7))?;
    check!(status == Status::Exited(7), status);
    let status = forked(|| _ = signal::kill(process::getpid(), 9))?;
    check!(status == Status::Killed(9), status);
    PASSED
}

fn guard_page(_: &Ctx) -> Verdict {
    let stack = Stack::map(STACK)?;
    expect_killed_by(SIGSEGV as i32, || {
        // SAFETY: not at all: this is the variant that must die.
        unsafe { stack.base().add(mm::page_size() - 1).write_volatile(1) };
    })?;
    let status = forked(|| {
        // SAFETY: the lowest byte of the stack, which nobody uses.
        unsafe { stack.base().add(mm::page_size()).write_volatile(1) };
    })?;
    check!(status == Status::Exited(0), status);
    PASSED
}

fn vfork(_: &Ctx) -> Verdict {
    static SEEN: AtomicU32 = AtomicU32::new(0);
    unsafe extern "C" fn child(_: *mut u8) -> ! {
        SEEN.store(process::gettid(), Relaxed);
        process::exit_group(3)
    }
    let stack = Stack::map(STACK)?;
    // SAFETY: a new stack, and a child that only stores and exits.
    let pid = unsafe { thread::spawn_vfork(stack.top(), child, core::ptr::null_mut())? };
    // It has exited before this runs, in the same memory.
    let seen = SEEN.load(Relaxed);
    check!(seen == pid as u32, "the child ", pid, " wrote ", seen);
    let (_, status) = process::wait(pid)?;
    check!(status == Status::Exited(3), status);
    // SAFETY: the child is gone.
    unsafe { stack.unmap()? };
    PASSED
}

fn filter(_: &Ctx) -> Verdict {
    use crate::sys::rseq::membarrier;
    use linux_raw_sys::general::{__NR_membarrier, __NR_sched_yield};
    let before = membarrier(0, 0, 0);
    seccomp::install(
        __NR_membarrier,
        When::ArgIsNot(1, 0),
        Answer::Errno(Errno::ACCES),
    )?;
    let (same, other) = (membarrier(0, 0, 0), membarrier(0, 1, 0));
    check!(same == before, "membarrier said ", before, ", now ", same);
    check!(
        other == Err(Errno::ACCES),
        "membarrier with a flag: ",
        other
    );
    seccomp::install(__NR_membarrier, When::ArgIs(1, 7), Answer::Errno(Errno(0)))?;
    seccomp::install(__NR_membarrier, When::Always, Answer::Errno(Errno::NOSYS))?;
    let always = membarrier(0, 0, 0);
    check!(always == Err(Errno::NOSYS), "membarrier always: ", always);
    const SIGSYS: i32 = 31;
    expect_killed_by(SIGSYS, || {
        let _ = seccomp::install(__NR_sched_yield, When::Always, Answer::Kill);
        sched::relax();
    })?;
    PASSED
}

fn counted(_: &Ctx) -> Verdict {
    fn body(_: &()) {
        for _ in 0..3 {
            process::getppid();
        }
    }
    // Once on the child's first thread, once on a second one.
    let mut child = Tracee::start(|| {
        body(&());
        let _ = thread::start(STACK, (), body).map(thread::Joinable::join);
    })?;
    let (mut first, mut second) = (0, 0);
    let mut last = None;
    while let Some((tid, event)) = child.next_event()? {
        match event {
            Event::Enter { nr, .. } if nr == u64::from(__NR_getppid) => {
                *(if tid == child.pid() {
                    &mut first
                } else {
                    &mut second
                }) += 1;
            }
            Event::Gone(status) if tid == child.pid() => last = Some(status),
            _ => {}
        }
    }
    check!(
        first == 3 && second == 3,
        "counted ",
        first,
        " and ",
        second,
        " calls, not 3 and 3"
    );
    check!(last == Some(Status::Exited(0)), "the tracee did not exit");
    PASSED
}

fn affinity(_: &Ctx) -> Verdict {
    let all = sched::allowed()?;
    for cpu in all.iter() {
        sched::allow(0, &sched::CpuSet::one(cpu))?;
        let (here, _) = sched::getcpu()?;
        check!(here == cpu, "allowed on ", cpu, " and running on ", here);
    }
    sched::allow(0, &all)?;
    let before = signal::mask(Mask::Block(signal::bit(SIGUSR1 as i32)))?;
    let (blocked, again) = (signal::blocked()?, signal::mask(Mask::Exactly(before))?);
    check!(
        blocked == again && blocked == before | signal::bit(SIGUSR1 as i32),
        "the mask lies"
    );
    passed!(all.count(), " CPUs")
}
