//! The suite: arguments, one child per test, time limits, the protocol.

use linux_raw_sys::general::{SIGCHLD, SIGKILL};
use linux_raw_sys::prctl::PR_SET_CHILD_SUBREAPER;

use super::report::{self, Kind, PANICKED, Report};
use super::{Ctx, Facts, Scale, Test, mutants};
use crate::entry::Env;
use crate::errno::Errno;
use crate::println;
use crate::sys::process::{self, Status};
use crate::sys::signal::{self, Mask};
use crate::sys::time::{self, Span};
use crate::text::{Text, text};

/// Runs the suites that the arguments select. Returns 0 if nothing failed.
pub fn run_suite(env: &Env, suites: &[&[Test]]) -> i32 {
    let tests = || suites.iter().flat_map(|suite| suite.iter());
    if env.has("--list") {
        tests().for_each(|test| println!("@name {}", test.name));
        return 0;
    }
    let scale = match env.value_of("--scale") {
        Some(b"native") => Scale::Native,
        Some(b"emulated") => Scale::Emulated,
        Some(b"user") => Scale::User,
        None if env.is_pid1() => Scale::Emulated,
        None => Scale::Native,
        Some(other) => {
            println!("no such scale: {}", other.escape_ascii());
            return 2;
        }
    };
    let Ok(isolation) = Isolation::new() else {
        println!("no memory for the report");
        return 2;
    };
    let facts = Facts::find(env);
    if env.is_pid1() {
        // Firmware may have left an unfinished line on the console.
        println!();
    }
    facts.print();
    let patience = match env.value_of("--patience") {
        // From the host's load: one digit, or 10.
        Some(&[digit @ b'1'..=b'9']) => u64::from(digit - b'0'),
        Some(b"10") => 10,
        None => 1,
        Some(other) => {
            println!("no such patience: {}", other.escape_ascii());
            return 2;
        }
    };
    let ctx = Ctx {
        env,
        facts: &facts,
        scale,
        patience,
    };
    let wanted = |test: &&Test| {
        // The user's selection, and the system's.
        ["--only", "--within"].iter().all(|list| {
            env.value_of(list)
                .is_none_or(|parts| has_one_of(test.name, parts))
        })
    };
    if let Some(path) = env.value_of("--mutants") {
        return mutants::judge(path, || tests().filter(wanted), &ctx, &isolation);
    }
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for test in tests().filter(wanted) {
        println!("@test {} start", test.name);
        let begun = time::now();
        let kind = one(test, &ctx, &isolation);
        let took = time::now().0.saturating_sub(begun.0) / Span::millis(1).0;
        println!("@took {} {took}", test.name);
        match kind {
            Kind::Passed => passed += 1,
            Kind::Failed => failed += 1,
            Kind::Skipped => skipped += 1,
        }
    }
    println!("@done {passed} {failed} {skipped}");
    i32::from(failed != 0)
}

/// Whether `suite::NAME` contains one of the comma-separated parts.
fn has_one_of(name: &str, parts: &[u8]) -> bool {
    let full = text(format_args!("suite::{name}"));
    let windows = |part: &[u8]| full.bytes().windows(part.len()).any(|at| at == part);
    parts
        .split(|&byte| byte == b',')
        .any(|part| part.is_empty() || windows(part))
}

fn one(test: &Test, ctx: &Ctx, isolation: &Isolation) -> Kind {
    let name = test.name;
    let (kind, text) = match test.needs.missing(ctx.facts, ctx.scale) {
        Some(why) => (Kind::Skipped, text(format_args!("{why}"))),
        None => isolation.run(test.limit * ctx.patience, || (test.run)(ctx)),
    };
    match kind {
        Kind::Passed if text.bytes().is_empty() => println!("@test {name} passed"),
        Kind::Passed => println!("@test {name} passed {text}"),
        Kind::Failed => println!("@test {name} failed: {text}"),
        Kind::Skipped => println!("@test {name} skipped: because {text}"),
    }
    kind
}

/// Runs one test as the suite does, without output: for tests of the harness.
pub fn judge(test: &Test, ctx: &Ctx) -> Result<(Kind, Text), Errno> {
    let outer = report::current();
    let seconds = test.limit * ctx.patience;
    let answer = report::share().map(|inner| Isolation(inner).run(seconds, || (test.run)(ctx)));
    report::set(outer);
    answer
}

/// Runs bodies in their own process, with a time limit and a shared report.
pub struct Isolation(&'static Report);

impl Isolation {
    /// For the first process of a program: it reaps the orphans of the bodies, as an init does.
    pub fn new() -> Result<Self, Errno> {
        let report = report::share()?;
        // SAFETY: no pointer among the arguments. If refused, the real init reaps.
        let _ = unsafe { process::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
        Ok(Self(report))
    }

    /// Runs `body`, which fails by a panic, for at most `seconds`. Returns the outcome and its reason.
    pub fn run(&self, seconds: u64, body: impl FnOnce()) -> (Kind, Text) {
        let Self(report) = self;
        report.clear();
        let ended = in_child(body, Span::secs(seconds));
        let said = report.said();
        let end = match (ended, said) {
            (Ok(Some(Status::Exited(0))), Some((kind, text))) => return (kind, text.copy()),
            (Ok(Some(Status::Exited(0))), None) => return (Kind::Passed, Text::new()),
            (Ok(Some(Status::Exited(PANICKED))), Some((Kind::Failed, text))) => {
                return (Kind::Failed, text.copy());
            }
            (Ok(Some(status)), _) => text(format_args!("{status}")),
            (Ok(None), _) => text(format_args!("not done after {seconds} s")),
            (Err(errno), _) => text(format_args!("the harness itself met {errno}")),
        };
        // A failure recorded before the process died is not the outcome, but shows how far it got.
        match said {
            Some((Kind::Failed, why)) => (Kind::Failed, text(format_args!("{end}; before: {why}"))),
            _ => (Kind::Failed, end),
        }
    }
}

/// Runs `body` in a child with its own process group; `None` on a timeout.
fn in_child(body: impl FnOnce(), limit: Span) -> Result<Option<Status>, Errno> {
    const CHILD: u64 = signal::bit(SIGCHLD as i32);
    // Blocked before the fork, so that an immediate exit stays pending.
    let before = signal::mask(Mask::Block(CHILD))?;
    // SAFETY: the harness has one thread.
    let pid = unsafe { process::fork()? };
    if pid == 0 {
        let _ = process::setpgid(0, 0);
        let _ = signal::mask(Mask::Exactly(before));
        body();
        process::exit_group(0);
    }
    // On both sides, so that the group exists whichever comes first. EACCES: it has exited already.
    let _ = process::setpgid(pid, pid);
    let end = Span(time::now().0.saturating_add(limit.0));
    let status = loop {
        match process::wait_now(pid) {
            Ok(Some((_, status))) => break Ok(Some(status)),
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => break Err(errno),
        }
        let left = end.0.saturating_sub(time::now().0);
        if left == 0 {
            break Ok(None);
        }
        // At most a second at a time: qemu-user may lose a signal, but not the clock.
        let _ = signal::take(CHILD, Span(left.min(Span::secs(1).0)));
    };
    // Kills the remaining processes of the test, whether it passed or not.
    let _ = signal::kill(-pid, SIGKILL as i32);
    if !matches!(status, Ok(Some(_))) {
        let _ = process::wait(pid);
    }
    // Orphans of the group die of that signal; slow ones get a moment.
    let mut patience = 2_000;
    while let Ok(reaped) = process::wait_now(-1) {
        if reaped.is_none() {
            patience -= 1;
            if patience == 0 {
                break;
            }
            let _ = time::sleep(Span::millis(5));
        }
    }
    signal::mask(Mask::Exactly(before))?;
    status
}
