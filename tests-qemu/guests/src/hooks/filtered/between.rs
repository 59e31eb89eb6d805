//! A filter installed for all threads by another thread, when the kernel has just registered an area and the hook is
//! about to confirm it. It cannot be unregistered any more, so its memory must stay.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::{Acquire, Release};

use linux_raw_sys::errno::{EBUSY, EINVAL, ENOSYS, EPERM};
use linux_raw_sys::general::__NR_rseq;
use rseq_rt::abi::{FLAG_UNREGISTER, Rseq};
use rseq_rt::{Area, Exit, ExitMode, Kernel, Linux, Owner, Process, State};

use super::STACK;
use crate::errno::Errno;
use crate::harness::{Ctx, must_pass};
use crate::hooked;
use crate::hooks::common::Hooks as _;
use crate::seccomp::{self, Answer, When};
use crate::sys::mm::{self, Access};
use crate::sys::sched::{self, CpuSet};
use crate::{other_calls_of_linux, thread, witness};

static IS_REGISTERED: AtomicBool = AtomicBool::new(false);
static IS_FILTERED: AtomicBool = AtomicBool::new(false);

/// The real kernel. The first successful registration returns once the filter is installed.
#[derive(Debug)]
struct Overtaken;

// SAFETY: Kernel (1, 2, 3): Linux's own.
unsafe impl Kernel for Overtaken {
    unsafe fn rseq(
        &self,
        area: *const Rseq,
        length: u32,
        flags: u32,
        signature: u32,
    ) -> Result<(), rseq_rt::Errno> {
        // SAFETY: rseq (1) is this function's (1).
        let answer = unsafe { Linux.rseq(area, length, flags, signature) };
        if flags & FLAG_UNREGISTER == 0 && answer.is_ok() {
            IS_REGISTERED.store(true, Release);
            sched::wait_until(|| IS_FILTERED.load(Acquire));
        }
        answer
    }

    other_calls_of_linux!();
}

fn installs(errno: &Errno) {
    sched::wait_until(|| IS_REGISTERED.load(Acquire));
    seccomp::install_everywhere(__NR_rseq, When::Always, Answer::Errno(*errno)).unwrap();
    IS_FILTERED.store(true, Release);
}

/// With memory that reads CPU 0 already, or -1.
fn live(ctx: &Ctx, errno: u32, is_zeroed: bool) {
    static PROCESS: Process<Overtaken> = Process::with_kernel(Overtaken);
    let place = mm::map(mm::page_size(), Access::ReadWrite)
        .unwrap()
        .cast::<Area>();
    if !is_zeroed {
        // SAFETY: a new page.
        unsafe { place.write(Area::new()) };
    }
    // SAFETY: a page that is never unmapped; zeroes are an area.
    let area = unsafe { &*place };
    let all = witness::cpus();
    let first = all.iter().next().unwrap();
    sched::allow(0, &CpuSet::one(first)).unwrap();
    assert_eq!(PROCESS.init(hooked::config(ctx.env)), Ok(None));
    let installer = thread::start(STACK, Errno(errno), installs).unwrap();
    let thread = PROCESS.create(area).unwrap();
    installer.join().unwrap();
    let state = thread.state();
    let is_ours = state == State::Registered(Owner::Runtime);
    assert!(
        is_ours || matches!(state, State::Unavailable(_)),
        "{state:?}"
    );
    assert!(PROCESS.current_cpu(area).is_ok_and(|cpu| cpu == first));
    let Exit::Kept(kept) = thread.on_exit(ExitMode::Release) else {
        panic!(
            "released by a filter that answers {:?}, from {state:?}",
            Errno(errno)
        );
    };
    assert!(kept.why().is_some());
    // From 7.0 on the kernel kills for a store to an id.
    witness::migrate(all);
    assert!(all.has(area.cpu_id() as u32), "the kernel writes to it");
}

pub fn confirmed(ctx: &Ctx) {
    for errno in [0, EPERM, EINVAL, ENOSYS, EBUSY] {
        for is_zeroed in [false, true] {
            must_pass(|| live(ctx, errno, is_zeroed));
        }
    }
}
