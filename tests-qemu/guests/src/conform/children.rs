//! Registration in a fork child, a vfork child, a new thread, and a new image.

use core::ffi::CStr;
use core::ptr;
use core::sync::atomic::Ordering::Relaxed;
use linux_raw_sys::auxvec::AT_EXECFN;
use linux_raw_sys::general::SIGSEGV;

use super::Check;
use super::aborts::{TURNS, WORDS, under_signals};
use super::area::{Area, LEGACY, agrees_everywhere, on_each_cpu, pin};
use super::ids::{STACK, registered};
use super::repeat::each_length;
use super::section::{ABORTED, DONE};
use super::system::System;
use crate::entry::Env;
use crate::errno::Errno;
use crate::harness::{forked, passed, skip, vforked};
use crate::stack::Stack;
use crate::sys::process::{self, Status, exit_group};
use crate::thread;

#[rustfmt::skip] // a table
pub(super) const CHECKS: &[Check] = &[
    Check::dangerous("children/fork", "the child of a fork is registered with its parent's address, length and signature: EBUSY, and right ids", fork),
    Check::dangerous("children/fork-aborts", "the sections of a fork's child are aborted", fork_aborts),
    Check::dangerous("children/thread", "a new thread starts unregistered, and each thread has its own area", thread_starts),
    Check::dangerous("children/vfork", "a child that shares the memory starts unregistered, and the kernel does not write to its parent's area for it", vfork),
    Check::nuisance("children/vfork-takes-the-area", "a child that shares the memory, and registers and unregisters its parent's area, harms nobody but the parent: repaired, or killed by SIGSEGV (from Linux 7.0 on)", vfork_takes),
    Check::dangerous("children/exec", "exec drops the registration", exec),
];

fn fork(system: &System<'_>) {
    each_length(system, |length| {
        let area = registered(length);
        for _ in 0..5 {
            let status = forked(|| {
                agree!(area.register(length), Err(Errno::BUSY), "in the child");
                agrees_everywhere(area, "the child of a fork");
            });
            agree!(status, Ok(Status::Exited(0)), "the child, length {length}");
            agrees_everywhere(area, "the parent of a fork");
        }
    });
}

fn fork_aborts(system: &System<'_>) {
    each_length(system, |length| {
        let area = registered(length);
        let status = forked(|| {
            let _timer = under_signals();
            let mut aborted = 0;
            for round in 1..=20 {
                let end = WORDS.stand(area, round, TURNS);
                assert_ne!(end, DONE, "committed after a signal, length {length}");
                aborted += u32::from(end == ABORTED);
            }
            assert_ne!(aborted, 0, "no signal came in 20 rounds");
        });
        agree!(status, Ok(Status::Exited(0)), "the child, length {length}");
    });
}

fn thread_starts(system: &System<'_>) {
    fn lives(length: &u32) {
        let own = registered(*length);
        agrees_everywhere(own, "a thread");
    }
    each_length(system, |length| {
        let area = registered(length);
        let threads: [_; 4] =
            core::array::from_fn(|_| thread::start(STACK, length, lives).unwrap());
        agrees_everywhere(area, "the main thread");
        for thread in threads {
            thread.join().unwrap();
        }
        agrees_everywhere(area, "the main thread");
    });
}

fn vfork(system: &System<'_>) {
    each_length(system, |length| {
        let stack = Stack::map(64 * 1024).unwrap();
        let (parents, childs) = (registered(length), Area::new());
        let cpu = system.cpus.iter().next().unwrap();
        pin(cpu);
        let before = parents.ids();
        let status = vforked(stack, || {
            // This thread inherited a single CPU.
            crate::sys::sched::allow(0, &system.cpus).unwrap();
            on_each_cpu(|cpu| {
                agree!(
                    parents.ids(),
                    before,
                    "the parent's ids, the child on {cpu}"
                )
            });
            agree!(childs.register(length), Ok(()), "the child's own area");
            agrees_everywhere(childs, "a child that shares the memory");
            agree!(parents.ids(), before, "the parent's ids");
            agree!(childs.unregister(length), Ok(()), "the child's own area");
        });
        agree!(status, Ok(Status::Exited(0)), "the child, length {length}");
        agrees_everywhere(parents, "the parent");
    });
}

fn vfork_takes(system: &System<'_>) {
    each_length(system, |length| {
        let status = forked(|| {
            process::no_core_dump();
            let stack = Stack::map(64 * 1024).unwrap();
            let area = registered(length);
            let child = vforked(stack, || {
                agree!(area.register(length), Ok(()), "by the child");
                agree!(area.unregister(length), Ok(()), "by the child");
            });
            agree!(child, Ok(Status::Exited(0)), "the child, length {length}");
            on_each_cpu(|_| {});
            let cpu = area.cpu_id.load(Relaxed);
            // A thread that cannot move keeps the child's values until its next switch.
            assert!(
                system.cpus.count() < 2 || system.cpus.has(cpu),
                "cpu_id reads {cpu} after moves, length {length}"
            );
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

/// The argument of the new image.
pub(super) const AFTER_EXEC: &str = "--after-exec";
const ARGUMENT: &CStr = c"--after-exec";
const FRESH: i32 = 23;
const NO_EXEC: i32 = 99;

/// The new image: reports whether the thread is unregistered.
pub(super) fn after_exec(env: &Env) -> i32 {
    let system = System::ask(env);
    let fresh = system.lengths().all(|length| {
        let area = Area::new();
        area.register(length).is_ok() && area.unregister(length).is_ok()
    });
    if fresh { FRESH } else { FRESH + 1 }
}

fn exec(system: &System<'_>) {
    let Some(path) = system.env.auxv(AT_EXECFN) else {
        skip!("AT_EXECFN is not in auxv");
    };
    let path = ptr::with_exposed_provenance::<u8>(path);
    let status = forked(|| {
        let _ = registered(LEGACY);
        let argv = [path, ARGUMENT.as_ptr().cast(), ptr::null()];
        let _ = argv.as_ptr().expose_provenance();
        // SAFETY: the kernel's own string; (1) strings up to a null pointer.
        let _ = unsafe {
            process::execve(
                CStr::from_ptr(path.cast()),
                argv.as_ptr(),
                system.env.envp(),
            )
        };
        exit_group(NO_EXEC);
    });
    match status {
        Ok(Status::Exited(FRESH)) => {}
        Ok(Status::Exited(NO_EXEC)) => skip!("this program cannot exec itself here"),
        status => panic!("the new image: {status:?}"),
    }
}
