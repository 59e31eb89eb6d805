//! Runs a program, keeps everything it says in the order it says it, and
//! does not wait for ever.

use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use wait_timeout::ChildExt;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited with this code.
    Exit(i32),
    /// A signal killed it.
    Signal(i32),
    /// It was still running when its time was up.
    TimedOut(Duration),
    /// It had said nothing of its own by then.
    Silent(Duration),
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
            End::Silent(after) => write!(f, "not a word in {} s", after.as_secs()),
        }
    }
}

/// A program that ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Standard output and standard error, interleaved as written.
    pub output: String,
    /// How it ended.
    pub end: End,
    /// How long it took.
    pub elapsed: Duration,
}

impl Finished {
    /// Whether it exited with 0.
    pub fn ok(&self) -> bool {
        self.end == End::Exit(0)
    }

    /// The last `lines` lines of its output.
    pub fn tail(&self, lines: usize) -> String {
        tail(&self.output, lines)
    }
}

/// The last `lines` non-empty lines of `text`.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Runs `command` to its end, or kills it and its process group at `timeout`.
pub fn run(command: &mut Command, timeout: Duration) -> io::Result<Finished> {
    run_and_look(command, timeout, |_| ()).map(|(finished, _)| finished)
}

/// The same, and kills it at `patience` if what it has said by then is nothing to `has_spoken`.
pub fn run_while_it_speaks(
    command: &mut Command,
    timeout: Duration,
    patience: Duration,
    has_spoken: fn(&str) -> bool,
) -> io::Result<Finished> {
    let speaks = Some((patience, has_spoken));
    run_with(command, timeout, speaks, |_| ()).map(|(finished, _)| finished)
}

/// As [`run`], with a look at the process before it is killed.
pub fn run_and_look<T>(
    command: &mut Command,
    timeout: Duration,
    look: impl FnOnce(u32) -> T,
) -> io::Result<(Finished, Option<T>)> {
    run_with(command, timeout, None, look)
}

/// How long to wait for a first word, and what is one.
type Speaks = (Duration, fn(&str) -> bool);

fn run_with<T>(
    command: &mut Command,
    timeout: Duration,
    speaks: Option<Speaks>,
    look: impl FnOnce(u32) -> T,
) -> io::Result<(Finished, Option<T>)> {
    let started = Instant::now();
    let (mut reader, writer) = io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    let child = command.spawn();
    // Our copies of the pipe's write end go away with this, or reading never ends.
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
    let mut seen = None;
    let mut status = None;
    let mut silent = None;
    if let Some((patience, has_spoken)) = speaks.filter(|(patience, _)| *patience < timeout) {
        status = child.wait_timeout(patience)?;
        let spoken = status.is_some() || has_spoken(&String::from_utf8_lossy(&lock(&said)));
        silent = (!spoken).then_some(End::Silent(patience));
    }
    if status.is_none() && silent.is_none() {
        status = child.wait_timeout(timeout.saturating_sub(started.elapsed()))?;
    }
    let end = match status {
        Some(status) => match (status.code(), status.signal()) {
            (Some(code), _) => End::Exit(code),
            (None, signal) => End::Signal(signal.unwrap_or_default()),
        },
        None => {
            seen = Some(look(child.id()));
            // Before the wait: until then the group's number cannot be reused.
            let _ = killpg(group, Signal::SIGKILL);
            child.wait()?;
            silent.unwrap_or(End::TimedOut(timeout))
        }
    };
    let elapsed = started.elapsed();
    // A grandchild that outlived the program may still hold the pipe.
    let patience = Instant::now();
    while !collector.is_finished() {
        if patience.elapsed() > Duration::from_secs(5) {
            let _ = killpg(group, Signal::SIGKILL);
            break;
        }
        thread::sleep(Duration::from_millis(2));
    }
    let _ = collector.join();
    let bytes = std::mem::take(&mut *lock(&said));
    // A serial console ends its lines with a carriage return as well.
    let output = String::from_utf8_lossy(&bytes).replace('\r', "");
    // Firmware clears the screen, which glues its codes to our first line.
    let output = console::strip_ansi_codes(&output).into_owned();
    let finished = Finished {
        output,
        end,
        elapsed,
    };
    Ok((finished, seen))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A command without what `cargo run` put into our own environment: the
/// programs we start must find this machine as its user does.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = command("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_streams_arrive_in_order() {
        let finished = run(
            &mut shell("echo a; echo b >&2; echo c; exit 3"),
            Duration::from_secs(20),
        )
        .unwrap();
        assert_eq!(
            (finished.output.as_str(), finished.end),
            ("a\nb\nc\n", End::Exit(3))
        );
    }

    #[test]
    fn a_hung_program_is_killed_with_its_children() {
        let finished = run(
            &mut shell("echo begun; sleep 60 & wait"),
            Duration::from_millis(300),
        )
        .unwrap();
        assert!(matches!(finished.end, End::TimedOut(_)));
        assert_eq!(finished.output, "begun\n");
        assert!(finished.elapsed < Duration::from_secs(20));
    }

    #[test]
    fn who_says_nothing_is_not_waited_for() {
        let run = |script: &str| {
            let (timeout, patience) = (Duration::from_secs(20), Duration::from_millis(300));
            let spoken = |said: &str| said.contains("word");
            run_while_it_speaks(&mut shell(script), timeout, patience, spoken).unwrap()
        };
        assert!(matches!(run("echo noise; sleep 60").end, End::Silent(_)));
        assert_eq!(run("echo a word; sleep 1").end, End::Exit(0));
        assert_eq!(run("exit 3").end, End::Exit(3));
    }

    #[test]
    fn a_signal_is_named() {
        let finished = run(&mut shell("kill -SEGV $$"), Duration::from_secs(20)).unwrap();
        assert_eq!(finished.end.to_string(), "killed by SIGSEGV");
    }
}
