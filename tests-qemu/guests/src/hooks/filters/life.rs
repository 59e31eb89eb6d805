//! A full life under a filter: create, read, and the three ways out, on threads from before the filter and after it.

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

use super::super::lifetime_poison::Poison;
use super::marked::{self, MARK, NTH};
use super::plan::{Call, Plan};
use crate::errno::Errno;
use crate::harness::{Ctx, Failed, failed};
use crate::seccomp::{self, Answer, When};
use crate::stack::Stack;
use crate::sys::mm::{self, Access};
use crate::sys::process;
use crate::sys::sched::{self, CpuSet};
use crate::sys::signal;
use crate::tcb::Tcb;
use crate::thread::spawn;
use crate::witness::{self, Known};
use crate::{arch, check, hooked, signals, text};

static PROCESS: Process = Process::new();
static DEFERRED: Deferred = Deferred::new();
static LENGTH: AtomicU32 = AtomicU32::new(0);
/// Of the threads that wait for the filter.
static GATE: AtomicU32 = AtomicU32::new(0);
static STANDING: AtomicU32 = AtomicU32::new(0);
static PLAN: AtomicPtr<Plan> = AtomicPtr::new(core::ptr::null_mut());

/// How a thread leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Keep,
    Release,
    Unmap,
}

/// What a thread leaves behind.
struct Record {
    tid: AtomicU32,
    /// Where it has come to: 0 not started, 1 created, 2 in its exit hook, 3 behind it.
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

/// A started thread.
struct Started {
    stack: Stack,
    block: *mut Tcb<Worker>,
    way: Way,
    record: &'static Record,
}

fn plan() -> Plan {
    // SAFETY: the plan of `begin`, on the stack of the main thread, which stays.
    unsafe { PLAN.load(Relaxed).as_ref() }
        .copied()
        .unwrap_or(Plan {
            call: Call::Uname,
            answer: Answer::Trap,
            is_late: false,
        })
}

fn install(plan: &Plan, everywhere: bool) -> Result<(), Errno> {
    let when = When::ArgIsNot(NTH, MARK);
    match everywhere {
        true => seccomp::install_everywhere(plan.call.number(), when, plan.answer),
        false => seccomp::install(plan.call.number(), when, plan.answer),
    }
}

/// The handler of a runtime that lives in a sandbox: it answers in the kernel's place.
unsafe extern "C" fn answers(_: i32, _: *mut siginfo_t, context: *mut u8) {
    // SAFETY: answer_call (1): this handler's.
    unsafe { arch::answer_call(context, -(ENOSYS as isize)) };
}

#[track_caller]
fn wrong(what: &str) -> Failed {
    failed(text!(plan(), ": ", *what))
}

/// The area and the reads through it, at any time of a life.
#[track_caller]
fn look(area: &Area) {
    let known = marked::ask(area, LENGTH.load(Relaxed));
    match area.state() {
        State::Registered(Owner::Runtime) if known != Known::This => {
            _ = wrong("the state says registered, and the kernel does not know the area");
        }
        State::Unregistered | State::Unavailable(_) if known == Known::This => {
            _ = wrong("the state says not registered, and the kernel knows the area");
        }
        _ => {}
    }
    let all = sched::allowed().unwrap_or(CpuSet::empty());
    for cpu in all.iter() {
        let _ = sched::allow(0, &CpuSet::one(cpu));
        match PROCESS.current_cpu(area) {
            Ok(u32::MAX) => _ = wrong("a CPU of u32::MAX"),
            // A filter that pretends answers CPU 0.
            Ok(read) if read != cpu && plan().call != Call::GetCpu => _ = wrong("a wrong CPU"),
            Err(_) if plan().call != Call::GetCpu => _ = wrong("no CPU"),
            _ => {}
        }
    }
    let _ = sched::allow(0, &all);
    if PROCESS.current_node(area) == Ok(u32::MAX) || PROCESS.current_mm_cid(area) == Some(u32::MAX)
    {
        _ = wrong("a node or a concurrency id of u32::MAX");
    }
}

unsafe extern "C" fn work(argument: *mut u8) -> ! {
    // SAFETY: `start` gave the thread its own block, which lives until its exit.
    let block = unsafe { &*argument.cast::<Tcb<Worker>>() };
    let (worker, plan) = (&block.payload, plan());
    let kills_thread = matches!(plan.answer, Answer::KillThread);
    if kills_thread && !worker.is_early && install(&plan, false).is_err() {
        _ = wrong("no filter");
    }
    // SAFETY: on_thread_create (1, 2, 3) in this thread's block, which it leaves by its exit hook.
    let Ok(thread) = (unsafe { PROCESS.on_thread_create(&worker.area) }) else {
        _ = wrong("the create hook");
        process::exit_thread(0);
    };
    look(&worker.area);
    worker.record.progress.store(1, Release);
    if worker.is_early {
        STANDING.fetch_add(1, Release);
        while GATE.load(Acquire) == 0 {
            sched::relax();
        }
        if kills_thread && install(&plan, false).is_err() {
            _ = wrong("no filter");
        }
    }
    look(&worker.area);
    worker.record.progress.store(2, Release);
    leave(thread, block)
}

fn leave(thread: Thread<'_>, block: &Tcb<Worker>) -> ! {
    let worker = &block.payload;
    let mode = match worker.way {
        Way::Keep => ExitMode::Keep,
        _ => ExitMode::Release,
    };
    let was_registered = worker.area.state() == State::Registered(Owner::Runtime);
    let exit = thread.on_exit(mode);
    let known = marked::ask(&worker.area, LENGTH.load(Relaxed));
    let record = worker.record;
    match &exit {
        Exit::Released(_) => {
            record.is_released.store(true, Relaxed);
            if known == Known::This {
                _ = wrong("released, and the kernel knows the area");
            }
        }
        Exit::Kept(kept) => {
            if was_registered && known != Known::This {
                _ = wrong("kept, and the kernel has let go");
            }
            let why = kept.why().map_or(0, Error::raw_os_error);
            record.why.store(u32::from(why), Relaxed);
        }
    }
    record.progress.store(3, Release);
    let stack = block.head.stack();
    match worker.way {
        // SAFETY: Exit::unmap_and_exit (1, 2, 3, 4) this thread's own stack, without a joiner; (5) the area is on it.
        Way::Unmap => unsafe {
            exit.unmap_and_exit(
                stack.base(),
                stack.len(),
                ClearTidPlace::Inside,
                &DEFERRED,
                0,
            )
        },
        // SAFETY: Kept::exit (1) nothing waits to be dropped.
        _ => unsafe { exit.into_kept().exit(0) },
    }
}

fn start(way: Way, nth: usize, is_early: bool) -> Result<Started, Failed> {
    let Some(record) = RECORD.get(nth) else {
        return Err(wrong("no record"));
    };
    let stack = Stack::map(32 * 1024)?;
    let worker = Worker {
        area: Area::new(),
        clear_tid: ClearTid::new(),
        way,
        record,
        is_early,
    };
    let block = Tcb::on(stack, worker)?;
    // SAFETY: spawn (1) nobody else's stack; (2, 3) the block lies on top of it; (4) `work` takes its own block.
    let tid = unsafe {
        let word = (*block).payload.clear_tid.as_ptr();
        spawn(
            block.cast(),
            &raw mut (*block).head,
            word,
            work,
            block.cast(),
        )?
    };
    record.tid.store(tid, Relaxed);
    Ok(Started {
        stack,
        block,
        way,
        record,
    })
}

fn is_mapped(stack: &Stack) -> bool {
    let lowest = stack.base().wrapping_add(mm::page_size());
    // SAFETY: protect (1): what it is already; mprotect(2) says ENOMEM of what is not mapped.
    unsafe { mm::protect(lowest, mm::page_size(), Access::ReadWrite) }.is_ok()
}

impl Started {
    /// After the thread's end: was it right?
    fn end(self) -> Result<(), Failed> {
        let plan = plan();
        let may_die = matches!(plan.answer, Answer::KillThread);
        let poison = match self.way {
            Way::Unmap => self.watch(),
            _ => self.join()?,
        };
        let progress = self.record.progress.load(Acquire);
        if progress != 3 && !may_die {
            return Err(wrong("a thread did not come to its end"));
        }
        if let Some(poison) = poison {
            let is_clean = poison.stray().is_none();
            // SAFETY: unmap (1) poison, which nobody uses.
            unsafe { marked::unmap(self.stack.base(), self.stack.len())? };
            return match is_clean {
                true => Ok(()),
                false => Err(wrong("somebody else's memory was written to")),
            };
        }
        if self.way != Way::Unmap {
            // SAFETY: unmap (1): the thread has ended, and only its starter knows the stack.
            return Ok(unsafe { marked::unmap(self.stack.base(), self.stack.len()) }?);
        }
        DEFERRED.sweep();
        let stays = matches!(plan.call, Call::Unmap | Call::SetTidAddress) || may_die;
        let was_filtered = self.record.why.load(Relaxed) != 0;
        match (is_mapped(&self.stack), stays) {
            (true, false) => Err(wrong("a stack leaks")),
            (false, true) if !may_die && !was_filtered => {
                Err(wrong("a stack has gone against the filter"))
            }
            _ => Ok(()),
        }
    }

    /// A thread whose starter waits for its word.
    fn join(&self) -> Result<Option<Poison>, Failed> {
        // SAFETY: the block stays until the end of `end`.
        let word = unsafe { &(*self.block).payload.clear_tid };
        let answer = word.wait();
        let is_refused = plan().call == Call::Futex;
        if answer.is_err() && !is_refused {
            return Err(wrong("the wait for clear-tid"));
        }
        while word.try_reclaim().is_none() {
            sched::relax();
        }
        Ok(None)
    }

    /// One that nobody can wait for. As soon as its memory has gone, something else lies there.
    fn watch(&self) -> Option<Poison> {
        let mut poison = None;
        let tid = self.record.tid.load(Relaxed);
        while signal::kill_thread(tid, 0).is_ok() {
            if poison.is_none() && !is_mapped(&self.stack) {
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

fn begin(ctx: &Ctx<'_>, plan: &Plan) -> Result<(), Failed> {
    PLAN.store(core::ptr::from_ref(plan).cast_mut(), Relaxed);
    let config = hooked::config(ctx.env);
    LENGTH.store(config.length(), Relaxed);
    // SAFETY: handle (1) it writes to its own context alone.
    unsafe { signals::handle(SIGSYS as i32, answers, 0)? };
    if !plan.is_late && !matches!(plan.answer, Answer::KillThread) {
        install(plan, true)?;
    }
    check!(PROCESS.init(config) == Ok(None), *plan, ": init");
    Ok(())
}

/// The filter that comes late, and the threads that wait for it.
fn turn(plan: &Plan) -> Result<(), Failed> {
    if plan.is_late && !matches!(plan.answer, Answer::KillThread) {
        install(plan, true)?;
    }
    GATE.store(1, Release);
    Ok(())
}

const WAYS: [Way; 3] = [Way::Keep, Way::Release, Way::Unmap];

/// The whole of it, on the main thread of a process of its own.
pub fn life(ctx: &Ctx<'_>, plan: Plan) -> Result<(), Failed> {
    static MAIN: Area = Area::new();
    static SCOPE: Area = Area::new();
    static NEVER: Area = Area::new();
    begin(ctx, &plan)?;
    // SAFETY: on_thread_create (1, 2, 3) a static, the main thread's.
    let main = unsafe { PROCESS.on_thread_create(&MAIN) };
    let main = main.map_err(|_| wrong("the create hook"))?;
    look(&MAIN);
    let [keep, release, unmap] = WAYS;
    let early = if plan.is_late {
        let early = [
            start(keep, 0, true)?,
            start(release, 1, true)?,
            start(unmap, 2, true)?,
        ];
        while STANDING.load(Acquire) < 3 {
            sched::relax();
        }
        Some(early)
    } else {
        None
    };
    turn(&plan)?;
    for started in early.into_iter().flatten() {
        started.end()?;
    }
    for (nth, way) in (3..).zip(WAYS) {
        start(way, nth, false)?.end()?;
    }
    look(&MAIN);
    // Not registered, ever.
    let cpu = PROCESS.current_cpu(&NEVER);
    if cpu.is_err() != (plan.call == Call::GetCpu) && !is_main_spared(&plan) {
        return Err(wrong("a read without rseq"));
    }
    let at = (&raw const NEVER).cast_mut().cast();
    // SAFETY: from_raw (1) a static area.
    let checked = unsafe { Area::from_raw(&Linux, at, Area::SIZE) };
    if checked.is_err() && plan.call != Call::Futex {
        return Err(wrong("a look at memory"));
    }
    let _ = PROCESS.allow_sections();
    if plan.call == Call::Membarrier {
        // It may wait for a grace period.
        let _ = Fence::register();
    }
    let request = MAIN.request_slice();
    let _ = MAIN.yield_slice(request);
    let before = MAIN.state();
    if before != State::Registered(Owner::Runtime) {
        // SAFETY: scoped (1, 2, 3) a static, of this thread alone.
        let scope = unsafe { PROCESS.scoped(&SCOPE) };
        let scope = scope.map_err(|_| wrong("the begin of a scope"))?;
        look(&SCOPE);
        let _ = scope.end();
        look(&SCOPE);
    }
    let exit = main.on_exit(ExitMode::Release);
    let known = marked::ask(&MAIN, LENGTH.load(Relaxed));
    match exit {
        Exit::Released(_) if known == Known::This => {
            Err(wrong("released, and the kernel knows the area"))
        }
        Exit::Released(_) => {
            marked::mask(0);
            witness::migrate(witness::cpus());
            Ok(())
        }
        Exit::Kept(kept) if kept.why().is_none() => Err(wrong("kept without a reason")),
        Exit::Kept(_) if !matches!(plan.call, Call::Rseq | Call::Mask) => Err(wrong("kept")),
        Exit::Kept(_) => {
            marked::mask(0);
            look_at_kept(&MAIN)
        }
    }
}

/// A kept area goes on being the kernel's, or stays as it is.
fn look_at_kept(area: &Area) -> Result<(), Failed> {
    witness::migrate(witness::cpus());
    match area.state() {
        State::Exiting => Ok(()),
        _ => Err(wrong("not exiting after the exit hook")),
    }
}

/// Has the main thread no filter?
fn is_main_spared(plan: &Plan) -> bool {
    matches!(plan.answer, Answer::KillThread)
}

/// Only the thread that unmaps its own stack, which the filter kills with all others.
pub fn unmaps(ctx: &Ctx<'_>, plan: Plan) -> Result<(), Failed> {
    static MAIN: Area = Area::new();
    begin(ctx, &plan)?;
    // SAFETY: on_thread_create (1, 2, 3) a static, the main thread's.
    let main = unsafe { PROCESS.on_thread_create(&MAIN) };
    check!(main.is_ok(), plan, ": the create hook");
    let started = start(Way::Unmap, 0, plan.is_late)?;
    while plan.is_late && STANDING.load(Acquire) < 1 {
        sched::relax();
    }
    turn(&plan)?;
    started.end()
}
