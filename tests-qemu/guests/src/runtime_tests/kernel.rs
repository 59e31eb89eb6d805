//! Deaths, children, filters, tracing, CPUs.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use linux_raw_sys::general::{
    __NR_getppid, __NR_membarrier, __NR_sched_yield, SIGSEGV, SIGSYS, SIGUSR1,
};

use super::STACK;
use crate::errno::Errno;
use crate::harness::{Ctx, forked, must_die, must_pass, passed};
use crate::seccomp::{self, Answer, When};
use crate::stack::Stack;
use crate::sys::process::{self, Status};
use crate::sys::rseq::membarrier;
use crate::sys::signal::{self, Mask};
use crate::sys::{mm, sched};
use crate::thread;
use crate::trace::{Event, Tracee};

pub(super) fn crash() {
    let nothing = core::ptr::without_provenance_mut::<u8>(8);
    // SAFETY: violated: this is the variant that must die.
    unsafe { nothing.write_volatile(1) };
}

pub(super) fn death(_: &Ctx<'_>) {
    must_die(SIGSEGV as i32, crash);
    let exited = forked(|| process::exit_group(7));
    assert_eq!(exited, Ok(Status::Exited(7)));
    let killed = forked(|| signal::kill(process::getpid(), 9).unwrap());
    assert_eq!(killed, Ok(Status::Killed(9)));
}

pub(super) fn guard_page(_: &Ctx<'_>) {
    let stack = Stack::map(STACK).unwrap();
    must_die(SIGSEGV as i32, || {
        // SAFETY: violated: this is the variant that must die.
        unsafe { stack.base().add(mm::page_size() - 1).write_volatile(1) };
    });
    must_pass(|| {
        // SAFETY: the lowest byte of the stack, which nobody uses.
        unsafe { stack.base().add(mm::page_size()).write_volatile(1) };
    });
}

pub(super) fn vfork(_: &Ctx<'_>) {
    static SEEN: AtomicU32 = AtomicU32::new(0);
    unsafe extern "C" fn child(_: *mut u8) -> ! {
        SEEN.store(process::gettid(), Relaxed);
        process::exit_group(3)
    }
    let stack = Stack::map(STACK).unwrap();
    // SAFETY: a new stack, and a child that only stores and exits.
    let pid = unsafe { thread::spawn_vfork(stack.top(), child, core::ptr::null_mut()) }.unwrap();
    // The child has exited by now, in the same memory.
    assert_eq!(SEEN.load(Relaxed), pid as u32);
    assert_eq!(process::wait(pid), Ok((pid, Status::Exited(3))));
    // SAFETY: the child is gone.
    unsafe { stack.unmap() }.unwrap();
}

pub(super) fn filter(_: &Ctx<'_>) {
    let refuse = |when, errno| {
        seccomp::install(__NR_membarrier, when, Answer::Errno(errno)).unwrap();
    };
    let before = membarrier(0, 0, 0);
    refuse(When::ArgIsNot(1, 0), Errno::ACCES);
    assert_eq!(membarrier(0, 0, 0), before);
    assert_eq!(membarrier(0, 1, 0), Err(Errno::ACCES));
    refuse(When::ArgIs(1, 7), Errno(0));
    refuse(When::Always, Errno::NOSYS);
    assert_eq!(membarrier(0, 0, 0), Err(Errno::NOSYS));
    must_die(SIGSYS as i32, || {
        seccomp::install(__NR_sched_yield, When::Always, Answer::Kill).unwrap();
        sched::relax();
    });
}

pub(super) fn counted(_: &Ctx<'_>) {
    fn body(_: &()) {
        for _ in 0..3 {
            process::getppid();
        }
    }
    // Once on the child's first thread, once on a second one.
    let traced = || {
        body(&());
        thread::run(STACK, (), body);
    };
    let (mut first, mut second) = (0, 0);
    let end = Tracee::watch(traced, |child, tid, event| {
        if matches!(event, Event::Enter { nr, .. } if nr == u64::from(__NR_getppid)) {
            let is_first = tid == child.pid();
            first += u32::from(is_first);
            second += u32::from(!is_first);
        }
    });
    assert_eq!((first, second), (3, 3), "calls of the two threads");
    assert_eq!(end, Status::Exited(0));
}

pub(super) fn affinity(_: &Ctx<'_>) {
    let all = sched::allowed().unwrap();
    for cpu in all.iter() {
        sched::allow(0, &sched::CpuSet::one(cpu)).unwrap();
        assert_eq!(sched::getcpu().unwrap().0, cpu);
    }
    sched::allow(0, &all).unwrap();
    let bit = signal::bit(SIGUSR1 as i32);
    let before = signal::mask(Mask::Block(bit)).unwrap();
    assert_eq!(signal::blocked(), Ok(before | bit));
    assert_eq!(signal::mask(Mask::Exactly(before)), Ok(before | bit));
    passed!("{} CPUs", all.count());
}
