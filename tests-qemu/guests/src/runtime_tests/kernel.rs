//! Deaths, children, filters, tracing, CPUs.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use linux_raw_sys::general::{__NR_getppid, SIGSEGV, SIGUSR1};

use super::STACK;
use crate::errno::Errno;
use crate::harness::{Ctx, PASSED, Verdict, expect_killed_by, forked};
use crate::seccomp::{self, Answer, When};
use crate::stack::Stack;
use crate::sys::process::{self, Status};
use crate::sys::signal::{self, Mask};
use crate::sys::{mm, sched};
use crate::trace::{Event, Tracee};
use crate::{check, passed, thread};

pub(super) fn crash() {
    let nothing = core::ptr::without_provenance_mut::<u8>(8);
    // SAFETY: not at all: this is the variant that must die.
    unsafe { nothing.write_volatile(1) };
}

pub(super) fn death(_: &Ctx) -> Verdict {
    expect_killed_by(SIGSEGV as i32, crash)?;
    let status = forked(|| process::exit_group(7))?;
    check!(status == Status::Exited(7), status);
    let status = forked(|| _ = signal::kill(process::getpid(), 9))?;
    check!(status == Status::Killed(9), status);
    PASSED
}

pub(super) fn guard_page(_: &Ctx) -> Verdict {
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

pub(super) fn vfork(_: &Ctx) -> Verdict {
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

pub(super) fn filter(_: &Ctx) -> Verdict {
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

pub(super) fn counted(_: &Ctx) -> Verdict {
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

pub(super) fn affinity(_: &Ctx) -> Verdict {
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
