//! The memory of an area: when it may be unmapped, and the effect of unmapping too early.

use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed};
use linux_raw_sys::general::{MADV_WIPEONFORK, SIGSEGV};

use super::Check;
use super::area::{Area, agrees_everywhere, on_each_cpu};
use super::ids::{STACK, registered};
use super::repeat::{each_length, must_be_killed_by};
use super::system::{Needs, System};
use crate::errno::Errno;
use crate::harness::{forked, passed, skip};
use crate::sys::mm;
use crate::sys::process::{self, Status};
use crate::sys::sched::{self, CpuSet};
use crate::sys::signal::{self, Mask};
use crate::sys::time::{self, Span};
use crate::thread;

#[rustfmt::skip] // a table
pub(super) const CHECKS: &[Check] = &[
    Check::dangerous("exit/clear-tid", "once the clear-tid word of a thread is 0, the kernel writes nothing to its area any more", clear_tid),
    Check::dangerous("exit/unregister-first", "once unregistration has answered 0, the area may be unmapped by its own thread, which then ends", unregister_first),
    Check::nuisance("memory/unmapped", "a registered area that is unmapped kills by SIGSEGV, even with every signal blocked, at its next migration", unmapped).needs(Needs::TwoCpus),
    Check::dangerous("memory/wiped", "an area that a fork wipes (MADV_WIPEONFORK) shows the CPU again in the child, or the child is killed by SIGSEGV (longer areas from Linux 7.0 on): never an old number", wiped),
];

const THREADS: usize = 60;

fn clear_tid(system: &System<'_>) {
    const MARK: u32 = 0x6b6b_6b6b;
    static AREA: AtomicPtr<Area> = AtomicPtr::new(core::ptr::null_mut());
    static LENGTH: AtomicU32 = AtomicU32::new(0);
    fn lives(_: &()) {
        let area = registered(LENGTH.load(Relaxed));
        AREA.store(area.at().cast(), Relaxed);
        // Migrating, so that an id is about to change.
        sched::relax();
    }
    each_length(system, |length| {
        LENGTH.store(length, Relaxed);
        let areas: [_; THREADS] = core::array::from_fn(|_| {
            let thread = thread::start(STACK, (), lives).unwrap();
            thread.wait();
            // SAFETY: a page that is never unmapped.
            let area = unsafe { &*AREA.load(Relaxed) };
            area.fill(MARK);
            thread.join().unwrap();
            area
        });
        on_each_cpu(|_| {});
        for area in areas {
            agree!(area.ids(), [MARK; 4], "written to after the end");
            agree!(area.cs.load(Relaxed), 0, "rseq_cs written to after the end");
        }
    });
    passed!("{THREADS} threads");
}

fn unregister_first(system: &System<'_>) {
    fn lives(length: &u32) {
        let area = registered(*length);
        agree!(area.unregister(*length), Ok(()), "length {length}");
        // SAFETY: unmap (1): unregistered.
        unsafe { mm::unmap(area.at(), mm::page_size()).unwrap() };
        on_each_cpu(|_| {});
    }
    each_length(system, |length| {
        for _ in 0..THREADS {
            thread::run(STACK, length, lives);
        }
    });
    passed!("{THREADS} threads");
}

fn unmapped(system: &System<'_>) {
    each_length(system, |length| {
        let what = format_args!("a thread without its area, length {length}");
        must_be_killed_by(SIGSEGV, what, || {
            let area = registered(length);
            let _ = signal::mask(Mask::Exactly(u64::MAX));
            // SAFETY: unmap (1): the process is expected to be killed.
            unsafe { mm::unmap(area.at(), mm::page_size()).unwrap() };
            for _ in 0..10 {
                for cpu in system.cpus.iter() {
                    let _ = sched::allow(0, &CpuSet::one(cpu));
                }
                let _ = time::sleep(Span::millis(1));
            }
        });
    });
}

fn wiped(system: &System<'_>) {
    each_length(system, |length| {
        let area = Area::new();
        // SAFETY: advise (1): only the kernel writes to it.
        match unsafe { mm::advise(area.at(), mm::page_size(), MADV_WIPEONFORK) } {
            Err(Errno::INVAL) => skip!("no MADV_WIPEONFORK here"),
            other => other.unwrap(),
        }
        agree!(area.register(length), Ok(()), "length {length}");
        let status = forked(|| {
            process::no_core_dump();
            agrees_everywhere(area, "the child of a wiped area");
        });
        match status {
            Ok(Status::Exited(0)) => passed!("repaired, length {length}"),
            Ok(Status::Killed(signal)) if signal == SIGSEGV as i32 => {
                passed!("killed, length {length}");
            }
            status => panic!("{status:?}, length {length}"),
        }
    });
}
