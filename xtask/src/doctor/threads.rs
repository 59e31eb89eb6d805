//! `cargo xtask doctor --pid`: the registration of each thread of a living process, by ptrace(2).

use std::ptr::{null_mut, without_provenance_mut};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::Serialize;
use serde_json::json;

use super::owner::{LibcSymbols, Owner};
use super::{Request, table};

/// The kernel's `struct ptrace_rseq_configuration`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Configuration {
    address: u64,
    size: u32,
    signature: u32,
    flags: u32,
    _padding: u32,
}

#[derive(Serialize)]
struct Thread {
    tid: i32,
    name: String,
    registered: bool,
    owner: Owner,
    address: String,
    size: u32,
    flags: u32,
    signature: String,
}

/// From Linux 5.13.
const PTRACE_GET_RSEQ_CONFIGURATION: Request = 0x420f;

fn ptrace(request: Request, tid: i32, size: usize, data: *mut Configuration) -> nix::Result<()> {
    // SAFETY: the requests below write at most `size` bytes to `data`.
    Errno::result(unsafe { libc::ptrace(request, tid, size, data) }).map(drop)
}

/// The threads of a process. One that ends meanwhile is left out.
fn threads(pid: i32) -> Result<Vec<Thread>> {
    let tasks = format!("/proc/{pid}/task");
    let tasks = std::fs::read_dir(&tasks).with_context(|| format!("no process {pid}: {tasks}"))?;
    let libc_symbols = LibcSymbols::of(pid);
    let mut threads = Vec::new();
    for task in tasks {
        let task = task?;
        let tid: i32 = task.file_name().to_string_lossy().parse()?;
        let (found, owner) = match configuration_of(tid, libc_symbols) {
            Err(Errno::ESRCH) => continue,
            Err(Errno::EPERM) => bail!(
                "ptrace(2) of thread {tid} is refused: be the same user, with no other tracer there, and see \
                 kernel.yama.ptrace_scope; or have CAP_SYS_PTRACE"
            ),
            Err(Errno::EIO) => {
                bail!("this kernel does not tell: before Linux 5.13, or without CONFIG_RSEQ")
            }
            Err(errno) => return Err(errno).context(format!("ptrace(2) of thread {tid}")),
            Ok(found) => found,
        };
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        threads.push(Thread {
            tid,
            name: name.trim().to_owned(),
            registered: found.address != 0,
            owner,
            address: format!("{:#x}", found.address),
            size: found.size,
            flags: found.flags,
            signature: format!("{:#010x}", found.signature),
        });
    }
    threads.sort_by_key(|thread| thread.tid);
    Ok(threads)
}

fn configuration_of(
    tid: i32,
    libc_symbols: Option<LibcSymbols>,
) -> nix::Result<(Configuration, Owner)> {
    ptrace(libc::PTRACE_SEIZE, tid, 0, null_mut())?;
    let stopped = ptrace(libc::PTRACE_INTERRUPT, tid, 0, null_mut()).and_then(|()| stop(tid));
    let mut found = Configuration::default();
    let asked = stopped.and_then(|_| {
        let size = size_of_val(&found);
        ptrace(PTRACE_GET_RSEQ_CONFIGURATION, tid, size, &raw mut found)?;
        Ok(Owner::of(tid, found.address, libc_symbols))
    });
    // Resumes with the signal that it was about to take. A thread that did not stop is released when this process ends.
    let signal = stopped.unwrap_or(0) as usize;
    let _ = ptrace(libc::PTRACE_DETACH, tid, 0, without_provenance_mut(signal));
    asked.map(|owner| (found, owner))
}

/// Waits until the thread has stopped. Returns the signal about to be delivered to it, or 0.
fn stop(tid: i32) -> nix::Result<i32> {
    let until = Instant::now() + Duration::from_secs(25);
    while Instant::now() < until {
        let flags = WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
        match waitpid(Pid::from_raw(tid), Some(flags))? {
            WaitStatus::StillAlive => std::thread::sleep(Duration::from_millis(1)),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Err(Errno::ESRCH),
            WaitStatus::Stopped(_, signal) => return Ok(signal as i32),
            _ => return Ok(0),
        }
    }
    Err(Errno::ETIMEDOUT)
}

pub fn show(pid: i32, json: bool) -> Result<()> {
    let threads = threads(pid)?;
    if json {
        let document = json!({ "pid": pid, "threads": threads });
        println!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(());
    }
    let mut shown = table(&[
        "thread",
        "name",
        "rseq",
        "owner",
        "address",
        "size",
        "flags",
        "signature",
    ]);
    for thread in &threads {
        let rest = match thread.registered {
            true => [
                "registered".to_owned(),
                thread.owner.text().to_owned(),
                thread.address.clone(),
                thread.size.to_string(),
                thread.flags.to_string(),
                thread.signature.clone(),
            ],
            false => ["no", thread.owner.text(), "-", "-", "-", "-"].map(str::to_owned),
        };
        shown.add_row(
            [thread.tid.to_string(), thread.name.clone()]
                .into_iter()
                .chain(rest),
        );
    }
    println!("{shown}");
    Ok(())
}
