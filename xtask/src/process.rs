//! Runs a program, keeps its output in order, and enforces time limits.

use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use wait_timeout::ChildExt;

use crate::outcome::{Failure, Missing, tail};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Exit(i32),
    Signal(i32),
    /// It was still running at its time limit.
    TimedOut(Duration),
    /// It had produced no output of its own by then.
    Silent(Duration),
    /// It produced output, and then nothing for that long.
    Hung(Duration),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            End::Exit(code) => write!(f, "exit code {code}"),
            End::Signal(number) => match Signal::try_from(number) {
                Ok(signal) => write!(f, "killed by {signal}"),
                Err(_) => write!(f, "killed by signal {number}"),
            },
            End::TimedOut(after) => write!(f, "no end after {} s", after.as_secs()),
            End::Silent(after) => write!(f, "no output in {} s", after.as_secs()),
            End::Hung(after) => write!(f, "no more output in {} s", after.as_secs()),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Finished {
    /// Standard output and standard error, interleaved as written.
    pub output: String,
    pub end: End,
    /// The result of [`Limits::inspect`] before it was killed.
    pub inspected: bool,
}

impl Finished {
    pub fn ok(&self) -> bool {
        self.end == End::Exit(0)
    }

    /// The last `lines` lines of its output.
    pub fn tail(&self, lines: usize) -> String {
        tail(&self.output, lines)
    }

    /// Its output, if it exited with 0; otherwise a failure of `what`.
    pub fn check(self, what: &str) -> Result<String> {
        match self.ok() {
            true => Ok(self.output),
            false => Err(Failure::error(format!("{what}: {}", self.end), self.output)),
        }
    }

    /// Succeeds if it died of `signal`, as a broken variant must.
    pub fn check_death(self, signal: Signal) -> Result<String> {
        match self.end {
            End::Signal(number) if number == signal as i32 => Ok(format!("dies: {}", self.end)),
            end => {
                let why = format!("expected death by {signal}: {end}");
                Err(Failure::error(why, self.output))
            }
        }
    }
}

/// A time limit, and a predicate that tells output from noise.
pub type FirstWord = (Duration, fn(&str) -> bool);

/// The time limits of a program.
#[derive(Clone, Copy)]
pub struct Limits {
    /// From its start to its end.
    pub total: Duration,
    /// From one output to the next.
    pub silence: Duration,
    /// The limit for the first output, and the predicate for it.
    pub first_word: Option<FirstWord>,
    /// Called with the process id before it is killed.
    pub inspect: fn(u32) -> bool,
}

impl Limits {
    /// A limit in seconds from start to end.
    pub fn seconds(total: u64) -> Self {
        let total = Duration::from_secs(total);
        Limits {
            total,
            silence: total,
            first_word: None,
            inspect: |_| false,
        }
    }
}

/// Runs `command` to its end, or kills it and its process group after `seconds`.
pub fn run(command: &mut Command, seconds: u64) -> Result<Finished> {
    run_within(command, Limits::seconds(seconds))
}

/// The command's output, if it exited with 0; otherwise a failure with its console.
pub fn output(command: &mut Command, what: &str, seconds: u64) -> Result<String> {
    run(command, seconds)?.check(what)
}

/// Copies a folder to a new one, with the times that make goes by.
pub fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let mut cp = command("cp");
    output(cp.arg("-a").arg(from).arg(to), "cp", 1200).map(drop)
}

/// As [`run`], within `limits`. A missing tool is missing; a program of ours that does not start has failed.
pub fn run_within(command: &mut Command, limits: Limits) -> Result<Finished> {
    let name = command.get_program().to_string_lossy().into_owned();
    run_group(command, limits).map_err(|why| {
        let said = format!("{name} does not start: {why}");
        match why.kind() == io::ErrorKind::NotFound && !name.starts_with('/') {
            true => Missing::required(said),
            false => anyhow!(said),
        }
    })
}

fn run_group(command: &mut Command, limits: Limits) -> io::Result<Finished> {
    let started = Instant::now();
    let (mut reader, writer) = io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    let child = command.spawn();
    // Drops our copies of the pipe's write end; reading would never end otherwise.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = child?;
    let group = Pid::from_raw(child.id().cast_signed());

    let said = Arc::new(Mutex::new(Vec::new()));
    let collector = thread::spawn({
        let said = Arc::clone(&said);
        move || {
            let mut some = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut some) {
                lock(&said).extend_from_slice(&some[..length]);
            }
        }
    });
    let mut inspected = false;
    let end = match wait(&mut child, started, limits, &said)? {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => End::Exit(code),
            (None, signal) => End::Signal(signal.unwrap_or_default()),
        },
        Err(end) => {
            inspected = (limits.inspect)(child.id());
            // Before the wait: until then the group id cannot be reused.
            let _ = killpg(group, Signal::SIGKILL);
            child.wait()?;
            end
        }
    };
    // A surviving grandchild may still hold the pipe; one in its own process group, for any length of time.
    let finishes_within = |patience: Duration| {
        let begun = Instant::now();
        while !collector.is_finished() && begun.elapsed() < patience {
            thread::sleep(Duration::from_millis(2));
        }
        collector.is_finished()
    };
    if !finishes_within(Duration::from_secs(5)) {
        // The group id is not reused while a member of the group exists, which holds the pipe.
        let _ = killpg(group, Signal::SIGKILL);
        finishes_within(Duration::from_secs(5));
    }
    let bytes = std::mem::take(&mut *lock(&said));
    // A serial console ends lines with a carriage return too.
    let output = String::from_utf8_lossy(&bytes).replace('\r', "");
    // Firmware clears the screen; its escape codes precede our first line.
    let output = console::strip_ansi_codes(&output).into_owned();
    Ok(Finished {
        output,
        end,
        inspected,
    })
}

/// Waits for its end, or for a limit.
fn wait(
    child: &mut Child,
    started: Instant,
    limits: Limits,
    said: &Mutex<Vec<u8>>,
) -> io::Result<Result<ExitStatus, End>> {
    let mut first_word = limits.first_word;
    let (mut length, mut last_word) = (0, started);
    loop {
        let left = [
            limits.total.saturating_sub(started.elapsed()),
            limits.silence.saturating_sub(last_word.elapsed()),
            first_word.map_or(Duration::MAX, |(by, _)| {
                by.saturating_sub(started.elapsed())
            }),
            // Polls for new output.
            Duration::from_secs(1),
        ];
        if let Some(status) = child.wait_timeout(left.into_iter().min().unwrap_or_default())? {
            return Ok(Ok(status));
        }
        let said = lock(said);
        if said.len() != length {
            (length, last_word) = (said.len(), Instant::now());
        }
        if started.elapsed() >= limits.total {
            return Ok(Err(End::TimedOut(limits.total)));
        }
        if last_word.elapsed() >= limits.silence {
            return Ok(Err(End::Hung(limits.silence)));
        }
        if let Some((by, has_spoken)) = first_word.filter(|(by, _)| started.elapsed() >= *by) {
            if !has_spoken(&String::from_utf8_lossy(&said)) {
                return Ok(Err(End::Silent(by)));
            }
            first_word = None;
        }
    }
}

/// Locks a mutex, even if a holder has panicked.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A command without the variables that `cargo run` put into our environment: programs must find this machine as its
/// user does.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let from_cargo = text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_");
        if from_cargo
            || matches!(
                &*text,
                "CARGO"
                    | "LD_LIBRARY_PATH"
                    | "RUSTFLAGS"
                    | "CARGO_ENCODED_RUSTFLAGS"
                    | "RUST_RECURSION_COUNT"
            )
        {
            command.env_remove(&name);
        }
    }
    command
}

/// A program that must be on this machine.
pub fn tool(name: &str) -> Result<Command> {
    let found = which::which(name);
    let path = found.map_err(|_| Missing::required(format!("{name} is not installed")))?;
    Ok(command(path))
}

/// A program of this machine, without which its cases are skipped.
pub fn optional_tool(name: &str) -> Result<Command> {
    let found = which::which(name);
    let path = found.map_err(|_| Missing::optional(format!("{name} is not installed")))?;
    Ok(command(path))
}

/// Sets whether glibc registers rseq in that program.
pub fn set_glibc_rseq(command: &mut Command, on: bool) -> &mut Command {
    command.env(
        "GLIBC_TUNABLES",
        format!("glibc.pthread.rseq={}", u8::from(on)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = command("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_streams_arrive_in_order_and_the_end_is_named() {
        let script = "echo a; echo b >&2; echo c; exit 3";
        let finished = run(&mut shell(script), 20).unwrap();
        assert_eq!(
            (finished.output.as_str(), finished.end),
            ("a\nb\nc\n", End::Exit(3))
        );
        let killed = run(&mut shell("kill -SEGV $$"), 20).unwrap();
        assert_eq!(killed.end.to_string(), "killed by SIGSEGV");
        assert!(killed.check("it").is_err());
        assert!(run(&mut command("no-such-program"), 20).is_err());
    }

    #[test]
    fn a_hung_program_is_killed_with_its_children() {
        let begun = Instant::now();
        let finished = run(&mut shell("echo begun; sleep 60 & wait"), 1).unwrap();
        assert!(matches!(finished.end, End::TimedOut(_)));
        assert_eq!(finished.output, "begun\n");
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_silent_program_is_not_waited_for() {
        let within = |first_word: Duration, script: &str| {
            let limits = Limits {
                silence: Duration::from_secs(5),
                first_word: Some((first_word, |said| said.contains("word"))),
                ..Limits::seconds(100)
            };
            run_within(&mut shell(script), limits).unwrap().end
        };
        let silent = within(Duration::from_millis(300), "echo noise; sleep 60");
        assert!(matches!(silent, End::Silent(_)));
        let run = |script| within(Duration::from_secs(50), script);
        assert_eq!(run("echo a word; sleep 1"), End::Exit(0));
        assert!(matches!(run("echo a word; sleep 60"), End::Hung(_)));
        let slow = "echo a word; for n in 1 2 3; do sleep 2; echo more; done";
        assert_eq!(run(slow), End::Exit(0));
    }

    #[test]
    fn a_grandchild_in_another_group_does_not_block() {
        let begun = Instant::now();
        let finished = run(&mut shell("setsid sleep 60 & echo begun"), 50).unwrap();
        assert_eq!((finished.end, &*finished.output), (End::Exit(0), "begun\n"));
        assert!(begun.elapsed() < Duration::from_secs(50));
    }
}
