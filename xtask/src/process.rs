//! Runs a program, keeps everything it says in the order it says it, and
//! does not wait for ever.

use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
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
    /// It spoke, and then no more for so long.
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
            End::Silent(after) => write!(f, "not a word in {} s", after.as_secs()),
            End::Hung(after) => write!(f, "not a word more in {} s", after.as_secs()),
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

/// The same, as long as it speaks: it may be slow, but not silent for so long.
pub fn run_while_it_speaks(command: &mut Command, patience: Patience) -> io::Result<Finished> {
    run_with(command, patience, |_| ()).map(|(finished, _)| finished)
}

/// How long a program is waited for.
#[derive(Clone, Copy)]
pub struct Patience {
    /// From its start to its end.
    pub all: Duration,
    /// From one word to the next.
    pub silence: Duration,
    /// From its start to its first word.
    pub first_word: Option<FirstWord>,
}

/// When there must have been a word, and whether there is one in what was said.
pub type FirstWord = (Duration, fn(&str) -> bool);

/// As [`run`], with a look at the process before it is killed.
pub fn run_and_look<T>(
    command: &mut Command,
    timeout: Duration,
    look: impl FnOnce(u32) -> T,
) -> io::Result<(Finished, Option<T>)> {
    let patience = Patience {
        all: timeout,
        silence: timeout,
        first_word: None,
    };
    run_with(command, patience, look)
}

fn run_with<T>(
    command: &mut Command,
    patience: Patience,
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
    let end = match wait(&mut child, started, patience, &said)? {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => End::Exit(code),
            (None, signal) => End::Signal(signal.unwrap_or_default()),
        },
        Err(end) => {
            seen = Some(look(child.id()));
            // Before the wait: until then the group's number cannot be reused.
            let _ = killpg(group, Signal::SIGKILL);
            child.wait()?;
            end
        }
    };
    let elapsed = started.elapsed();
    // A grandchild that outlived the program may still hold the pipe; one in a group of its own for as long as it likes.
    let finishes_within = |patience: Duration| {
        let begun = Instant::now();
        while !collector.is_finished() && begun.elapsed() < patience {
            thread::sleep(Duration::from_millis(2));
        }
        collector.is_finished()
    };
    if !finishes_within(Duration::from_secs(5)) {
        // The number is not reused as long as one of its group is there, who holds the pipe.
        let _ = killpg(group, Signal::SIGKILL);
        finishes_within(Duration::from_secs(5));
    }
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

/// Until it ends; else why it is waited for no longer.
fn wait(
    child: &mut Child,
    started: Instant,
    patience: Patience,
    said: &Mutex<Vec<u8>>,
) -> io::Result<Result<ExitStatus, End>> {
    let mut first_word = patience.first_word;
    let (mut length, mut last_word) = (0, started);
    loop {
        let left = [
            patience.all.saturating_sub(started.elapsed()),
            patience.silence.saturating_sub(last_word.elapsed()),
            first_word.map_or(Duration::MAX, |(by, _)| {
                by.saturating_sub(started.elapsed())
            }),
            // To see it speak.
            Duration::from_secs(1),
        ];
        if let Some(status) = child.wait_timeout(left.into_iter().min().unwrap_or_default())? {
            return Ok(Ok(status));
        }
        let said = lock(said);
        if said.len() != length {
            (length, last_word) = (said.len(), Instant::now());
        }
        if started.elapsed() >= patience.all {
            return Ok(Err(End::TimedOut(patience.all)));
        }
        if last_word.elapsed() >= patience.silence {
            return Ok(Err(End::Hung(patience.silence)));
        }
        if let Some((by, has_spoken)) = first_word.filter(|(by, _)| started.elapsed() >= *by) {
            if !has_spoken(&String::from_utf8_lossy(&said)) {
                return Ok(Err(End::Silent(by)));
            }
            first_word = None;
        }
    }
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
        let spoken: fn(&str) -> bool = |said| said.contains("word");
        let within = |first_word: Duration, script: &str| {
            let patience = Patience {
                all: Duration::from_secs(100),
                silence: Duration::from_secs(5),
                first_word: Some((first_word, spoken)),
            };
            run_while_it_speaks(&mut shell(script), patience)
                .unwrap()
                .end
        };
        let at_once = Duration::from_millis(300);
        let silent = within(at_once, "echo noise; sleep 60");
        assert!(matches!(silent, End::Silent(_)));
        let run = |script| within(Duration::from_secs(50), script);
        assert_eq!(run("echo a word; sleep 1"), End::Exit(0));
        assert_eq!(run("exit 3"), End::Exit(3));
        assert!(matches!(run("echo a word; sleep 60"), End::Hung(_)));
        let slow = "echo a word; for n in 1 2 3; do sleep 2; echo more; done";
        assert_eq!(run(slow), End::Exit(0));
    }

    #[test]
    fn who_is_in_a_group_of_its_own_holds_nobody_up() {
        let mut script = shell("setsid sleep 60 & echo begun");
        let finished = run(&mut script, Duration::from_secs(50)).unwrap();
        assert_eq!((finished.end, &*finished.output), (End::Exit(0), "begun\n"));
        assert!(finished.elapsed < Duration::from_secs(50));
    }

    #[test]
    fn a_signal_is_named() {
        let finished = run(&mut shell("kill -SEGV $$"), Duration::from_secs(20)).unwrap();
        assert_eq!(finished.end.to_string(), "killed by SIGSEGV");
    }
}
