//! A full life under a filter: create, read, and the three exits, on threads from before the filter and after it.

use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

use linux_raw_sys::errno::ENOSYS;
use linux_raw_sys::general::{SIGSYS, siginfo_t};
use rseq_rt::structures::Fence;
use rseq_rt::{
    Area, ClearTid, ClearTidPlace, Deferred, Error, Exit, ExitMode, Linux, Owner, Process, State,
    Thread,
};

use super::super::lifetime::poison::Poison;
use super::marked::{self, MARK, NTH};
use super::plan::{Call, Plan};
use crate::harness::Ctx;
use crate::hooks::common::Hooks as _;
use crate::seccomp::{self, When};
use crate::stack::Stack;
use crate::sys::mm::{self, Access};
use crate::sys::sched;
use crate::sys::signal;
use crate::tcb::Tcb;
use crate::thread::spawn;
use crate::witness::{self, Known};
use crate::{arch, hooked, signals};

static PROCESS: Process = Process::new();
static DEFERRED: Deferred = Deferred::new();
static LENGTH: AtomicU32 = AtomicU32::new(0);
/// Opened for the threads that wait for the filter.
static GATE: AtomicU32 = AtomicU32::new(0);
static STANDING: AtomicU32 = AtomicU32::new(0);
static PLAN: AtomicPtr<Plan> = AtomicPtr::new(core::ptr::null_mut());

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Keep,
    Release,
    Unmap,
}

/// The record of a thread, read after its end.
struct Record {
    tid: AtomicU32,
    /// 0 not started, 1 created, 2 in its exit hook, 3 behind it.
    progress: AtomicU32,
    is_released: AtomicBool,
    why: AtomicU32,
}

const RECORDS: usize = 6;
static RECORD: [Record; RECORDS] = [const {
    Record {
        tid: AtomicU32::new(0),
        progress: AtomicU32::new(0),
        is_released: AtomicBool::new(false),
        why: AtomicU32::new(0),
    }
}; RECORDS];

/// The payload of a thread's block.
struct Worker {
    area: Area,
    clear_tid: ClearTid,
    way: Way,
    record: &'static Record,
    /// It waits for the filter between its two hooks.
    is_early: bool,
}

struct Started {
    stack: Stack,
    block: *mut Tcb<Worker>,
    way: Way,
    record: &'static Record,
}

fn plan() -> Plan {
    // SAFETY: the plan of `begin`, on the stack of the main thread, which stays.
    unsafe { *PLAN.load(Relaxed) }
}

#[track_caller]
fn must(holds: bool, what: &str) {
    assert!(holds, "{}: {what}", plan());
}

fn install(plan: &Plan, everywhere: bool) {
    let when = When::ArgIsNot(NTH, MARK);
    let install = match everywhere {
        true => seccomp::install_everywhere,
        false => seccomp::install,
    };
    install(plan.call.number(), when, plan.answer).unwrap();
}

/// The SIGSYS handler of a sandboxed runtime: it answers in place of the kernel.
unsafe extern "C" fn answers(_: i32, _: *mut siginfo_t, context: *mut u8) {
    // SAFETY: answer_call (1): this handler's.
    unsafe { arch::answer_call(context, -(ENOSYS as isize)) };
}

/// The area and reads through it, at any point of a life.
#[track_caller]
fn look(area: &Area) {
    let is_known = marked::ask(area, LENGTH.load(Relaxed)) == Known::This;
    match area.state() {
        State::Registered(Owner::Runtime) => {
            must(
                is_known,
                "registered, and the kernel does not know the area",
            );
        }
        State::Unregistered | State::Unavailable(_) => {
            must(!is_known, "not registered, and the kernel knows the area");
        }
        _ => {}
    }
    let is_filtered = plan().call == Call::GetCpu;
    witness::on_each_cpu(|cpu| match PROCESS.current_cpu(area) {
        // A filter that pretends success answers CPU 0.
        Ok(read) if is_filtered => must(read != u32::MAX, "a CPU of u32::MAX"),
        answer => must(answer == Ok(cpu) || is_filtered, "another CPU, or none"),
    });
    let (node, mm_cid) = (PROCESS.current_node(area), PROCESS.current_mm_cid(area));
    must(node != Ok(u32::MAX), "a node of u32::MAX");
    must(mm_cid != Some(u32::MAX), "a concurrency id of u32::MAX");
}

unsafe extern "C" fn work(argument: *mut u8) -> ! {
    // SAFETY: `start` gave the thread its own block, which lives until its exit.
    let block = unsafe { &*argument.cast::<Tcb<Worker>>() };
    let (worker, plan) = (&block.payload, plan());
    let kills_thread = plan.kills_thread();
    if kills_thread && !worker.is_early {
        install(&plan, false);
    }
    let thread = PROCESS.create(&worker.area);
    must(thread.is_ok(), "the create hook");
    look(&worker.area);
    worker.record.progress.store(1, Release);
    if worker.is_early {
        STANDING.fetch_add(1, Release);
        sched::wait_until(|| GATE.load(Acquire) != 0);
        if kills_thread {
            install(&plan, false);
        }
    }
    look(&worker.area);
    worker.record.progress.store(2, Release);
    leave(thread.unwrap(), block)
}

fn leave(thread: Thread<'_>, block: &Tcb<Worker>) -> ! {
    let (worker, stack) = (&block.payload, block.head.stack());
    let mode = match worker.way {
        Way::Keep => ExitMode::Keep,
        _ => ExitMode::Release,
    };
    let was_registered = worker.area.state() == State::Registered(Owner::Runtime);
    let exit = thread.on_exit(mode);
    let is_known = marked::ask(&worker.area, LENGTH.load(Relaxed)) == Known::This;
    let record = worker.record;
    match &exit {
        Exit::Released(_) => {
            record.is_released.store(true, Relaxed);
            must(!is_known, "released, and the kernel knows the area");
        }
        Exit::Kept(kept) => {
            let is_right = is_known || !was_registered;
            must(is_right, "kept, but the kernel has let go of it");
            let why = kept.why().map_or(0, Error::raw_os_error);
            record.why.store(u32::from(why), Relaxed);
        }
    }
    record.progress.store(3, Release);
    let place = ClearTidPlace::Inside;
    match worker.way {
        // SAFETY: Exit::unmap_and_exit (1, 2, 3, 4) this thread's own stack, without a joiner; (5) the area is on it.
        Way::Unmap => unsafe {
            exit.unmap_and_exit(stack.base(), stack.len(), place, &DEFERRED, 0)
        },
        // SAFETY: Kept::exit (1) nothing waits to be dropped.
        _ => unsafe { exit.into_kept().exit(0) },
    }
}

fn start(way: Way, nth: usize, is_early: bool) -> Started {
    let record = &RECORD[nth];
    let stack = Stack::map(32 * 1024).unwrap();
    let worker = Worker {
        area: Area::new(),
        clear_tid: ClearTid::new(),
        way,
        record,
        is_early,
    };
    let block = Tcb::on(stack, worker).unwrap();
    // SAFETY: spawn (1) nobody else's stack; (2, 3) the block lies on top of it; (4) `work` takes its own block.
    let tid = unsafe {
        let word = (*block).payload.clear_tid.as_ptr();
        let head = &raw mut (*block).head;
        spawn(block.cast(), head, word, work, block.cast())
    };
    record.tid.store(tid.unwrap(), Relaxed);
    Started {
        stack,
        block,
        way,
        record,
    }
}

impl Started {
    /// Checks the thread after its end.
    fn end(self) {
        let plan = plan();
        let may_die = plan.kills_thread();
        let poison = match self.way {
            Way::Unmap => self.watch(),
            _ => {
                self.join();
                None
            }
        };
        let progress = self.record.progress.load(Acquire);
        must(progress == 3 || may_die, "a thread did not end");
        if let Some(poison) = &poison {
            must(
                poison.stray().is_none(),
                "somebody else's memory was written to",
            );
        }
        if self.way != Way::Unmap || poison.is_some() {
            // SAFETY: unmap (1): the thread has ended, and only its starter knows the stack, or it is poison by now.
            unsafe { marked::unmap(self.stack.base(), self.stack.len()) }.unwrap();
            return;
        }
        DEFERRED.sweep();
        let stays = matches!(plan.call, Call::Unmap | Call::SetTidAddress) || may_die;
        let was_filtered = self.record.why.load(Relaxed) != 0;
        if self.stack.is_mapped() {
            must(stays, "a stack leaks");
        } else {
            let may_go = !stays || may_die || was_filtered;
            must(may_go, "a stack has gone against the filter");
        }
    }

    /// A thread whose starter waits for its clear-tid word.
    fn join(&self) {
        // SAFETY: the block stays until the end of `end`.
        let word = unsafe { &(*self.block).payload.clear_tid };
        let is_refused = plan().call == Call::Futex;
        let answer = word.wait();
        must(answer.is_ok() || is_refused, "the wait for clear-tid");
        sched::wait_until(|| word.try_reclaim().is_some());
    }

    /// A thread that cannot be joined. As soon as its memory is unmapped, poison is mapped there.
    fn watch(&self) -> Option<Poison> {
        let mut poison = None;
        let tid = self.record.tid.load(Relaxed);
        while signal::kill_thread(tid, 0).is_ok() {
            if poison.is_none() && !self.stack.is_mapped() {
                let (base, length) = (self.stack.base(), self.stack.len());
                poison = match mm::map_near(base, length, Access::ReadWrite) {
                    // SAFETY: fill (1) a new mapping.
                    Ok(at) if at == base => Some(unsafe { Poison::fill(base, length) }),
                    _ => None,
                };
            }
            sched::relax();
        }
        poison
    }
}

/// The main thread after its create hook.
fn begin(ctx: &Ctx, plan: &Plan) -> Thread<'static> {
    PLAN.store(core::ptr::from_ref(plan).cast_mut(), Relaxed);
    let config = hooked::config(ctx.env);
    LENGTH.store(config.length(), Relaxed);
    // SAFETY: handle (1) it writes to its own context only.
    unsafe { signals::handle(SIGSYS as i32, answers, 0) }.unwrap();
    if !plan.is_late && !plan.kills_thread() {
        install(plan, true);
    }
    must(PROCESS.init(config) == Ok(None), "init");
    let main = PROCESS.create(&MAIN);
    must(main.is_ok(), "the create hook");
    main.unwrap()
}

/// Installs a late filter, and releases the threads that wait for it.
fn turn(plan: &Plan) {
    if plan.is_late && !plan.kills_thread() {
        install(plan, true);
    }
    GATE.store(1, Release);
}

static MAIN: Area = Area::new();
const WAYS: [Way; 3] = [Way::Keep, Way::Release, Way::Unmap];

/// The whole test, on the main thread of its own process.
pub fn life(ctx: &Ctx, plan: Plan) {
    let main = begin(ctx, &plan);
    look(&MAIN);
    let early = plan.is_late.then(|| {
        let early = [0, 1, 2].map(|nth| start(WAYS[nth], nth, true));
        sched::wait_until(|| STANDING.load(Acquire) >= 3);
        early
    });
    turn(&plan);
    for started in early.into_iter().flatten() {
        started.end();
    }
    for (nth, way) in (3..).zip(WAYS) {
        start(way, nth, false).end();
    }
    look(&MAIN);
    without_registration(&plan);
    let request = MAIN.request_slice();
    let _ = MAIN.yield_slice(request);
    if MAIN.state() != State::Registered(Owner::Runtime) {
        scope();
    }
    let exit = main.on_exit(ExitMode::Release);
    let is_known = marked::ask(&MAIN, LENGTH.load(Relaxed)) == Known::This;
    match exit {
        Exit::Released(_) => must(!is_known, "released, and the kernel knows the area"),
        Exit::Kept(kept) => {
            must(kept.why().is_some(), "kept without a reason");
            must(matches!(plan.call, Call::Rseq | Call::Mask), "kept");
        }
    }
    marked::mask(0);
    // The kernel keeps writing to a kept area.
    witness::migrate(witness::cpus());
    must(
        MAIN.state() == State::Exiting,
        "another state after the exit hook",
    );
}

/// The calls that need no registration.
fn without_registration(plan: &Plan) {
    static NEVER: Area = Area::new();
    let cpu = PROCESS.current_cpu(&NEVER);
    // If threads are killed, the main thread has no filter.
    let is_refused = plan.call == Call::GetCpu && !plan.kills_thread();
    must(
        cpu.is_err() == is_refused || plan.kills_thread(),
        "a read without rseq",
    );
    let at = (&raw const NEVER).cast_mut().cast();
    // SAFETY: from_raw (1) a static area.
    let checked = unsafe { Area::from_raw(&Linux, at, Area::SIZE) };
    must(
        checked.is_ok() || plan.call == Call::Futex,
        "a look at memory",
    );
    let _ = PROCESS.allow_sections();
    if plan.call == Call::Membarrier {
        // May wait for a grace period.
        let _ = Fence::register();
    }
}

fn scope() {
    static SCOPE: Area = Area::new();
    let scope = PROCESS.scope(&SCOPE);
    must(scope.is_ok(), "the begin of a scope");
    look(&SCOPE);
    let _ = scope.unwrap().end();
    look(&SCOPE);
}

/// Only the thread that unmaps its own stack, which the filter kills with all others.
pub fn unmaps(ctx: &Ctx, plan: Plan) {
    let _main = begin(ctx, &plan);
    let started = start(Way::Unmap, 0, plan.is_late);
    sched::wait_until(|| !plan.is_late || STANDING.load(Acquire) >= 1);
    turn(&plan);
    started.end();
}
