//! The hooks store no id while registered: they survive a migration between any two instructions.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;
use linux_raw_sys::general::{SIGSEGV, SIGSTOP, SIGTRAP};

use rseq_rt::abi::CPU_ID_UNINITIALIZED;
use rseq_rt::{Area, Config, State, arch};

use super::{OURS, STACK, passed_by_end};
use crate::harness::{Ctx, forked, passed};
use crate::hooked::{self, RSEQ};
use crate::hooks::common::{Hooks as _, init};
use crate::stepper::{Stepper, stop};
use crate::sys::process::{self, Status, exit_group};
use crate::sys::ptrace;
use crate::sys::rseq::rseq;
use crate::sys::sched::{self, CpuSet};
use crate::{thread, witness};

const ALL_RIGHT: i32 = 7;

/// Runs `body` in a child that moves to another CPU after each instruction. Returns how it ended, and the number of
/// moves.
fn moved(body: fn(&'static Area)) -> (Status, u64) {
    const STEPPED: i32 = SIGTRAP as i32;
    const STOPPED: i32 = SIGSTOP as i32;
    static AREA: Area = Area::new();
    // SAFETY: start (1) no other thread yet.
    let child = unsafe {
        Stepper::start(|| {
            process::no_core_dump();
            ptrace::trace_me().unwrap();
            stop();
            body(&AREA);
        })
    };
    let mut child = child.unwrap();
    let cpus = witness::cpus();
    let mut moves = 0;
    for cpu in core::iter::repeat(()).flat_map(|()| cpus.iter()) {
        match child.status {
            Status::Stopped(STEPPED | STOPPED) => {
                sched::allow(child.pid as u32, &CpuSet::one(cpu)).unwrap();
                child.one().unwrap();
                moves += 1;
            }
            // The signal that kills it.
            Status::Stopped(signal) => child.run_with(signal).unwrap(),
            _ => break,
        }
    }
    (child.status, moves)
}

/// A whole life of an area, twice: in a scope, and up to the exit hook.
fn life(area: &'static Area) {
    let scoped = RSEQ.scope(area).unwrap();
    assert_eq!(area.state(), OURS);
    scoped.thread().lend().end();
    scoped.end().unwrap();
    assert_eq!(area.state(), State::Unregistered);
    RSEQ.ensure(area).unwrap();
    let thread = RSEQ.create(area).unwrap();
    assert_eq!(area.state(), OURS);
    RSEQ.current_cpu(area).unwrap();
    let gone = hooked::release(thread).unwrap();
    // SAFETY: (1) nothing on this stack waits to be dropped.
    unsafe { gone.exit(ALL_RIGHT) }
}

pub(super) fn hooks(ctx: &Ctx<'_>) {
    init(ctx);
    let mut all = 0;
    for _ in 0..ctx.scale(4, 1, 0) {
        let (status, moves) = moved(life);
        assert_eq!(status, Status::Exited(ALL_RIGHT), "after {moves} moves");
        all += moves;
    }
    passed!("{all} moves, one an instruction");
}

/// The broken variant: it resets the ids itself, just before the unregistration would.
pub(super) fn broken_hook(ctx: &Ctx<'_>) {
    const REPAIRED: i32 = 3;
    const KILLED: i32 = 4;
    fn broken(area: &'static Area) {
        let _thread = RSEQ.create(area).unwrap();
        let cpu_id = &witness::rseq_of(area).cpu_id;
        cpu_id.store(CPU_ID_UNINITIALIZED, Relaxed);
        let at = core::ptr::from_ref(area).cast_mut().cast();
        // SAFETY: (1) static; (2) its own.
        unsafe { rseq(at, RSEQ.length(), 1, arch::SIGNATURE) }.unwrap();
        exit_group(REPAIRED);
    }
    // In its own process, since the configuration is permanent.
    let run = |config: Config| {
        let status = forked(|| {
            assert_eq!(RSEQ.init(config), Ok(None));
            exit_group(match moved(broken).0 {
                Status::Killed(signal) if signal == SIGSEGV as i32 => KILLED,
                Status::Exited(REPAIRED) => REPAIRED,
                status => panic!("the broken hook: {status}"),
            });
        });
        status.unwrap()
    };
    let config = hooked::config(ctx.env);
    let expected = |is_killed| Status::Exited(if is_killed { KILLED } else { REPAIRED });
    assert_eq!(run(config.legacy_length()), expected(ctx.facts.strict));
    let is_killed = witness::kills_for_stores(ctx.facts);
    assert_eq!(run(config), expected(is_killed));
    passed_by_end(ctx.facts);
}

const WORKERS: usize = 4;
static TIDS: [AtomicU32; WORKERS] = [const { AtomicU32::new(0) }; WORKERS];
static OVER: AtomicU32 = AtomicU32::new(0);
static LIVED: AtomicU32 = AtomicU32::new(0);

fn worker(me: &usize) {
    TIDS[*me].store(process::gettid(), Relaxed);
    let area = Area::new();
    while OVER.load(Relaxed) == 0 {
        live(&area);
        LIVED.fetch_add(1, Relaxed);
    }
}

/// Create, and the two ends that leave the thread alive.
fn live(area: &Area) {
    let scoped = RSEQ.scope(area).unwrap();
    assert_eq!(area.state(), OURS);
    scoped.end().unwrap();
    let ensured = RSEQ.ensure(area);
    assert_eq!(ensured, Ok(OURS));
    let thread = RSEQ.thread_of(area).unwrap();
    let gone = hooked::release(thread).unwrap();
    // SAFETY: (1) blocked.
    unsafe { gone.recycle_area() };
}

pub(super) fn storm(ctx: &Ctx<'_>) {
    init(ctx);
    let goal = ctx.scale(400, 200, 0);
    let cpus = witness::cpus();
    let workers: [_; WORKERS] =
        core::array::from_fn(|me| thread::start(STACK, me, worker).unwrap());
    let mut moves = 0;
    while moves < goal {
        for cpu in cpus.iter() {
            for tid in &TIDS {
                let tid = tid.load(Relaxed);
                // 0: not started yet.
                if tid != 0 && sched::allow(tid, &CpuSet::one(cpu)).is_ok() {
                    moves += 1;
                }
                sched::relax();
            }
        }
    }
    OVER.store(1, Relaxed);
    for worker in workers {
        worker.join().unwrap();
    }
    let lived = LIVED.load(Relaxed);
    assert_ne!(lived, 0, "no life came to its end");
    passed!("{moves} moves, {lived} lives");
}
