//! A traced child: the system calls of each of its threads.

use linux_raw_sys::general::{SIGSTOP, SIGTRAP};
use linux_raw_sys::ptrace::{
    PTRACE_EVENT_CLONE, PTRACE_O_EXITKILL, PTRACE_O_TRACECLONE, PTRACE_O_TRACESYSGOOD,
    PTRACE_SYSCALL_INFO_ENTRY,
};

use crate::errno::Errno;
use crate::sys::process::{self, Status};
use crate::sys::{ptrace, signal};

#[derive(Clone, Copy)]
pub enum Event {
    /// The thread is about to call `nr`.
    Enter { nr: u64, args: [u64; 6] },
    /// The call has returned, errors as -errno.
    Leave(i64),
    /// The thread is about to get this signal, and will.
    Signal(i32),
    /// The thread is new, or has just started another.
    Thread,
    /// The thread (or, as the last one, the process) is gone.
    Gone(Status),
}

/// A traced child with all its threads; it dies with its tracer.
pub struct Tracee {
    pid: i32,
    // The stopped thread, and the signal to continue it with.
    stopped: Option<(i32, i32)>,
}

/// A thread that stays stopped while the others go on.
#[must_use = "it stands until `let_go`"]
pub struct Held(i32, i32);

impl Tracee {
    /// Forks a child that runs `body` once it is traced, and then exits.
    fn start(body: impl FnOnce()) -> Result<Self, Errno> {
        // SAFETY: the child uses this thread's stack and nothing of other threads.
        let pid = unsafe { process::fork()? };
        if pid == 0 {
            let ready =
                ptrace::trace_me().and_then(|()| signal::kill(process::getpid(), SIGSTOP as i32));
            if ready.is_ok() {
                body();
            }
            process::exit_group(if ready.is_ok() { 0 } else { 99 });
        }
        let (_, Status::Stopped(_)) = process::wait(pid)? else {
            return Err(Errno::PERM);
        };
        let options = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE;
        ptrace::set_options(pid, options)?;
        let stopped = Some((pid, 0));
        Ok(Self { pid, stopped })
    }

    /// Starts a child, and shows each event to `look`; how the child ended.
    #[track_caller]
    pub fn watch(body: impl FnOnce(), mut look: impl FnMut(&mut Self, i32, Event)) -> Status {
        let mut child = Self::start(body).unwrap();
        let mut end = None;
        while let Some((tid, event)) = child.next_event().unwrap() {
            if let Event::Gone(status) = event
                && tid == child.pid
            {
                end = Some(status);
            }
            look(&mut child, tid, event);
        }
        end.unwrap()
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The next event and its thread, which stands still until the next call of
    /// this; `None` after the last thread.
    fn next_event(&mut self) -> Result<Option<(i32, Event)>, Errno> {
        const TRAP: i32 = SIGTRAP as i32;
        const CALL: i32 = TRAP | 0x80;
        const CLONED: i32 = TRAP | (PTRACE_EVENT_CLONE << 8) as i32;
        // A new thread's first stop; it is not sent otherwise.
        const NEW: i32 = SIGSTOP as i32;
        loop {
            if let Some((tid, signal)) = self.stopped.take() {
                match ptrace::run_to_syscall(tid, signal) {
                    // Killed while stopped.
                    Err(Errno::SRCH) => {}
                    other => other?,
                }
            }
            let (tid, status) = match process::wait(-1) {
                Err(Errno::CHILD) => return Ok(None),
                other => other?,
            };
            let Status::Stopped(stop) = status else {
                return Ok(Some((tid, Event::Gone(status))));
            };
            self.stopped = Some((tid, 0));
            let event = match stop {
                CALL => match Self::call(tid) {
                    // Killed, by another thread's death, between its stop and the query.
                    Err(Errno::SRCH) => continue,
                    other => other?,
                },
                CLONED | NEW => Event::Thread,
                signal => {
                    self.stopped = Some((tid, signal));
                    Event::Signal(signal)
                }
            };
            return Ok(Some((tid, event)));
        }
    }

    /// Keeps the thread of the last event stopped.
    pub fn hold(&mut self) -> Option<Held> {
        self.stopped.take().map(|(tid, signal)| Held(tid, signal))
    }

    pub fn let_go(&mut self, held: Held) -> Result<(), Errno> {
        ptrace::run_to_syscall(held.0, held.1)
    }

    fn call(tid: i32) -> Result<Event, Errno> {
        let info = ptrace::syscall_info(tid)?;
        // SAFETY: the field that `op` names is the one that the kernel wrote.
        Ok(unsafe {
            if u32::from(info.op) == PTRACE_SYSCALL_INFO_ENTRY {
                let entry = info.__bindgen_anon_1.entry;
                Event::Enter {
                    nr: entry.nr,
                    args: entry.args,
                }
            } else {
                Event::Leave(info.__bindgen_anon_1.exit.rval)
            }
        })
    }
}
