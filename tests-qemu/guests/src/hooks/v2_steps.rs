//! The hooks store to no id while registered: moved to another CPU between any two instructions, they live.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;
use linux_raw_sys::general::{SIGSEGV, SIGSTOP, SIGTRAP};

use rseq_rt::abi::CPU_ID_UNINITIALIZED;
use rseq_rt::{Area, Config, Owner, State, arch};

use crate::harness::child::wait;
use crate::harness::{Ctx, Failed, Needs, Test, Verdict, failed};
use crate::hooked::{self, RSEQ};
use crate::stepper::{Stepper, stop};
use crate::sys::process::{self, Status, exit_group};
use crate::sys::ptrace;
use crate::sys::rseq::rseq;
use crate::sys::sched::{self, CpuSet};
use crate::thread;
use crate::{check, passed, text, witness};

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("v2/hooks-moved-at-each-step", hooks).needs(STEPS),
    Test::new("v2/broken-hook-moved-at-each-step", broken_hook).needs(STEPS),
    Test::new("v2/hooks-in-a-storm-of-moves", storm).needs(Needs::RSEQ.cpus(2)),
];

const STEPS: Needs = Needs::RSEQ.and(Needs::PTRACE).cpus(2);
const STACK: usize = 32 * 1024;
const ALL_RIGHT: i32 = 7;

/// Runs `body` in a child that moves to another CPU after each instruction. How it ended, and how many moves it made.
fn moved(body: fn(&'static Area)) -> Result<(Status, u64), Failed> {
    static AREA: Area = Area::new();
    // SAFETY: start (1) no other thread yet.
    let mut child = unsafe {
        Stepper::start(|| {
            process::no_core_dump();
            if ptrace::trace_me().is_ok() {
                stop();
                body(&AREA);
            }
        })?
    };
    let cpus = witness::cpus();
    let mut moves = 0;
    for cpu in core::iter::repeat(()).flat_map(|()| cpus.iter()) {
        match child.status {
            Status::Stopped(SIGTRAP_STOP | SIGSTOP_STOP) => {
                sched::allow(child.pid as u32, &CpuSet::one(cpu))?;
                child.one()?;
                moves += 1;
            }
            // What it dies of.
            Status::Stopped(signal) => child.run_with(signal)?,
            _ => break,
        }
    }
    Ok((child.status, moves))
}

const SIGTRAP_STOP: i32 = SIGTRAP as i32;
const SIGSTOP_STOP: i32 = SIGSTOP as i32;

/// A whole life of an area, twice: in a scope, and up to the exit hook.
fn life(area: &'static Area) {
    let registered = || area.state() == State::Registered(Owner::Runtime);
    // SAFETY: (1, 2, 3) the only thread's, static.
    let Ok(scoped) = (unsafe { RSEQ.scoped(area) }) else {
        return;
    };
    let first = registered();
    let lent = scoped.thread().lend();
    lent.end();
    let ended = scoped.end().is_ok() && area.state() == State::Unregistered;
    // SAFETY: (1, 2) as above.
    let ensured = unsafe { RSEQ.ensure_registered(area) };
    // SAFETY: (1, 2, 3) as above.
    let Ok(thread) = (unsafe { RSEQ.on_thread_create(area) }) else {
        return;
    };
    let second = registered() && ensured.is_ok() && RSEQ.current_cpu(area).is_ok();
    let Ok(gone) = hooked::release(thread) else {
        return;
    };
    let status = if first && ended && second {
        ALL_RIGHT
    } else {
        2
    };
    // SAFETY: (1) nothing on this stack waits to be dropped.
    unsafe { gone.exit(status) }
}

fn hooks(ctx: &Ctx<'_>) -> Verdict {
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    let mut all = 0;
    for _ in 0..ctx.scale(10, 1, 0) {
        let (status, moves) = moved(life)?;
        check!(
            status == Status::Exited(ALL_RIGHT),
            "after ",
            moves,
            " moves it ",
            status
        );
        all += moves;
    }
    passed!(all, " moves, one an instruction")
}

/// The broken variant: it resets the ids by itself, a moment before the unregistration would.
fn broken_hook(ctx: &Ctx<'_>) -> Verdict {
    fn broken(area: &'static Area) {
        // SAFETY: (1, 2, 3) the only thread's, static.
        if unsafe { RSEQ.on_thread_create(area) }.is_err() {
            return;
        }
        witness::rseq_of(area)
            .cpu_id
            .store(CPU_ID_UNINITIALIZED, Relaxed);
        let at = core::ptr::from_ref(area).cast_mut().cast();
        // SAFETY: (1) static; (2) its own.
        let gone = unsafe { rseq(at, RSEQ.length(), 1, arch::SIGNATURE) };
        exit_group(if gone.is_ok() { 3 } else { 1 });
    }
    let run = |config: Config| -> Result<Status, Failed> {
        // In a process of its own, as the configuration is for life.
        // SAFETY: (1) no other thread yet.
        let pid = unsafe { process::fork()? };
        if pid == 0 {
            let ended = match RSEQ.init(config) {
                Ok(_) => moved(broken),
                Err(_) => Err(failed(text!("init"))),
            };
            exit_group(match ended {
                Ok((Status::Killed(signal), ..)) => 128 + signal,
                Ok((Status::Exited(code), ..)) => code,
                _ => 1,
            });
        }
        Ok(wait(pid)?)
    };
    const KILLED: Status = Status::Exited(128 + SIGSEGV as i32);
    const REPAIRED: Status = Status::Exited(3);
    let config = hooked::config(ctx.env);
    let legacy = run(config.legacy_length())?;
    let expected = if ctx.facts.strict { KILLED } else { REPAIRED };
    check!(legacy == expected, "length 32: ", legacy);
    let status = run(config)?;
    if witness::kills_for_stores(ctx.facts) {
        check!(status == KILLED, "the broken hook ", status);
        passed!(match ctx.facts.strict {
            true => "killed, with length 32 too",
            false => "killed, and repaired with length 32",
        })
    } else {
        check!(status == REPAIRED, "the broken hook ", status);
        passed!("repaired")
    }
}

const WORKERS: usize = 4;
static TIDS: [AtomicU32; WORKERS] = [const { AtomicU32::new(0) }; WORKERS];
static OVER: AtomicU32 = AtomicU32::new(0);
static LIVED: AtomicU32 = AtomicU32::new(0);

fn worker(me: &usize) {
    if let Some(tid) = TIDS.get(*me) {
        tid.store(process::gettid(), Relaxed);
    }
    let area = Area::new();
    while OVER.load(Relaxed) == 0 && lives(&area).is_ok() {
        LIVED.fetch_add(1, Relaxed);
    }
}

/// Create and the two ends that a living thread has.
fn lives(area: &Area) -> Result<(), Failed> {
    // SAFETY: (1, 2, 3) this thread's, ended below.
    let Ok(scoped) = (unsafe { RSEQ.scoped(area) }) else {
        return Err(failed(text!("create")));
    };
    let registered = area.state() == State::Registered(Owner::Runtime);
    check!(registered, "not registered in a scope");
    check!(scoped.end().is_ok(), "end");
    // SAFETY: (1, 2) this thread's, ended below.
    let ensured = unsafe { RSEQ.ensure_registered(area) };
    let registered = ensured == Ok(State::Registered(Owner::Runtime));
    check!(registered, "not registered when asked for");
    // SAFETY: (1) just ensured; (2) no other.
    let Ok(thread) = (unsafe { RSEQ.current_thread(area) }) else {
        return Err(failed(text!("no current thread")));
    };
    match hooked::release(thread) {
        // SAFETY: (1) blocked.
        Ok(gone) => unsafe { gone.recycle_area() },
        Err(_) => check!(false, "release"),
    }
    Ok(())
}

fn storm(ctx: &Ctx<'_>) -> Verdict {
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    let goal = ctx.scale(1_000, 200, 0);
    let cpus = witness::cpus();
    let workers: [_; WORKERS] = core::array::from_fn(|me| thread::start(STACK, me, worker));
    let mut moves = 0;
    for (cpu, tid) in core::iter::repeat(()).flat_map(|()| {
        cpus.iter()
            .flat_map(|cpu| TIDS.iter().map(move |tid| (cpu, tid)))
    }) {
        if moves >= goal {
            break;
        }
        let tid = tid.load(Relaxed);
        // 0: not started yet.
        if tid != 0 && sched::allow(tid, &CpuSet::one(cpu)).is_ok() {
            moves += 1;
        }
        sched::relax();
    }
    OVER.store(1, Relaxed);
    for worker in workers {
        worker?.join()?;
    }
    let lived = LIVED.load(Relaxed);
    check!(lived != 0, "no life came to its end");
    passed!(moves, " moves, ", lived, " lives")
}
