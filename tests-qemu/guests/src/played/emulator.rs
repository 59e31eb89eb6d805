//! An emulator that implements rseq(2) and writes the ids at each requested move, but ignores rseq_cs. It does not
//! follow forks: the child is unregistered.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Release};

use linux_raw_sys::general::{
    __NR_clone, __NR_execve, __NR_rseq, __NR_sched_setaffinity, CLONE_FILES, SIGCHLD,
};
use linux_raw_sys::ptrace::seccomp_notif;

use super::notifier::{self, Reply};
use super::{SKIPPED, exec};
use crate::entry::Env;
use crate::errno::Errno;
use crate::sys::mm;
use crate::sys::process::{self, Status};
use crate::sys::raw::syscall;
use crate::sys::sched::{self, CpuSet};
use crate::sys::time::{self, Span};

const CALLS: [u32; notifier::CALLS] = [__NR_rseq, __NR_sched_setaffinity, __NR_execve];

/// Shared with the child: the listener's descriptor plus 1, or an errno plus [`REFUSED`].
struct Told(AtomicU32);

const REFUSED: u32 = 1 << 16;

/// Runs the program. Returns its exit code.
pub fn run(env: &Env) -> Result<i32, Errno> {
    // SAFETY: zeroed and never unmapped.
    let told = unsafe { &*mm::map_shared(mm::page_size())?.cast::<Told>() };
    // Shares the descriptors up to its exec, and so the listener.
    // SAFETY: a copy of everything else, from a process with one thread.
    let pid = unsafe { syscall!(__NR_clone, SIGCHLD | CLONE_FILES, 0, 0, 0, 0) }? as i32;
    if pid == 0 {
        let word = match notifier::install(CALLS) {
            Ok(fd) => fd as u32 + 1,
            Err(errno) => REFUSED + errno.0,
        };
        told.0.store(word, Release);
        process::exit_group(if word < REFUSED { exec(env) } else { SKIPPED });
    }
    let fd = loop {
        match told.0.load(Acquire) {
            0 => _ = time::sleep(Span::millis(1)),
            word if word >= REFUSED => return Err(Errno(word - REFUSED)),
            word => break word as i32 - 1,
        }
    };
    let mut emulator = Emulator {
        areas: [Registered::NONE; AREAS],
        next: 0,
    };
    loop {
        while let Some(call) = notifier::next(fd, Span::millis(50))? {
            let reply = emulator.answer(&call);
            notifier::reply(fd, &call, reply)?;
        }
        match process::wait_now(pid)? {
            Some((_, Status::Exited(code))) => return Ok(code),
            Some(_) => return Ok(SKIPPED - 1),
            None => {}
        }
    }
}

#[derive(Clone, Copy)]
struct Registered {
    tid: u32,
    at: u64,
    length: u32,
    signature: u32,
}

impl Registered {
    const NONE: Self = Self {
        tid: 0,
        at: 0,
        length: 0,
        signature: 0,
    };
}

/// More than the threads alive at once. A new one replaces the oldest.
const AREAS: usize = 64;

struct Emulator {
    areas: [Registered; AREAS],
    next: usize,
}

impl Emulator {
    fn answer(&mut self, call: &seccomp_notif) -> Reply {
        let (nr, args) = (call.data.nr as u32, call.data.args);
        match nr {
            _ if nr == __NR_rseq => Reply::Answer(self.rseq(
                call.pid,
                args[0],
                args[1] as u32,
                args[2] as u32,
                args[3] as u32,
            )),
            _ if nr == __NR_sched_setaffinity => {
                let target = if args[0] as u32 == 0 {
                    call.pid
                } else {
                    args[0] as u32
                };
                Reply::Answer(self.moves(call.pid, target, args[1], args[2]))
            }
            _ => {
                // An exec.
                self.forget(call.pid);
                Reply::GoOn
            }
        }
    }

    fn of(&mut self, tid: u32) -> Option<&mut Registered> {
        self.areas.iter_mut().find(|area| area.tid == tid)
    }

    fn forget(&mut self, tid: u32) {
        if let Some(area) = self.of(tid) {
            *area = Registered::NONE;
        }
    }

    /// The answers of Linux 6.18, with its order of checks.
    fn rseq(
        &mut self,
        tid: u32,
        at: u64,
        length: u32,
        flags: u32,
        signature: u32,
    ) -> Result<(), Errno> {
        let known = self.of(tid).map(|area| *area);
        let same = |area: &Registered| area.at == at && area.length == length;
        match (flags, known) {
            (0 | 1, Some(area)) if !same(&area) => Err(Errno::INVAL),
            (0 | 1, Some(area)) if area.signature != signature => Err(Errno::PERM),
            (0, Some(_)) => Err(Errno::BUSY),
            (1, Some(_)) => {
                write_ids(tid, at, [0, u32::MAX])?;
                self.forget(tid);
                Ok(())
            }
            (0, None) if length >= 32 && at.is_multiple_of(32) => {
                write_ids(tid, at, [first_cpu(tid); 2])?;
                let slot = self.next % AREAS;
                self.next += 1;
                let area = Registered {
                    tid,
                    at,
                    length,
                    signature,
                };
                self.areas
                    .get_mut(slot)
                    .map(|free| *free = area)
                    .ok_or(Errno::NOMEM)
            }
            _ => Err(Errno::INVAL),
        }
    }

    /// sched_setaffinity(2), and the ids of a thread that is left with one CPU.
    fn moves(&mut self, tid: u32, target: u32, length: u64, at: u64) -> Result<(), Errno> {
        if length != size_of::<CpuSet>() as u64 {
            return Err(Errno::INVAL);
        }
        let mut set = CpuSet::empty();
        notifier::read(tid, at, &mut set)?;
        sched::allow(target, &set)?;
        let cpu = set.iter().next().filter(|_| set.count() == 1);
        if let (Some(cpu), Some(area)) = (cpu, self.of(target)) {
            return write_ids(target, area.at, [cpu; 2]);
        }
        Ok(())
    }
}

/// Writes cpu_id and cpu_id_start; this emulator has no other ids.
fn write_ids(tid: u32, at: u64, ids: [u32; 2]) -> Result<(), Errno> {
    notifier::write(tid, at, &ids).map_err(|_| Errno::FAULT)
}

/// The CPU of a thread that may use only one; otherwise a guess.
fn first_cpu(tid: u32) -> u32 {
    let set = sched::allowed_of(tid).unwrap_or(CpuSet::empty());
    set.iter().next().unwrap_or(0)
}
