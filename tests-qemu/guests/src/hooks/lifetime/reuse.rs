//! Reused memory: by the joiner after clear-tid, by a pool after release, and too early.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use linux_raw_sys::general::SIGSEGV;
use rseq_rt::{Area, Owner, Reclaimed, State, Thread};

use super::STACK;
use super::poison::Poison;
use crate::harness::{Ctx, forked, passed};
use crate::hooked::{self, Hooked, RSEQ};
use crate::hooks::common::{Hooks as _, init};
use crate::stack::Stack;
use crate::sys::mm;
use crate::sys::process::{self, Status};
use crate::sys::sched::{self, CpuSet};
use crate::{thread, witness};

/// The exit code of a child that saw the kernel write where it should not.
const STRAY: i32 = 3;

fn is_killed_or_stray(status: Status) -> bool {
    matches!(status, Status::Killed(signal) if signal == SIGSEGV as i32)
        || status == Status::Exited(STRAY)
}

/// A stack used by one thread after another, poisoned in between.
struct Reused {
    stack: Stack,
    poison: Option<Poison>,
}

impl Reused {
    fn map() -> Self {
        Self {
            stack: Stack::map(STACK).unwrap(),
            poison: None,
        }
    }

    fn inspect(&mut self) {
        if let Some(poison) = self.poison.take() {
            poison.assert_clean();
        }
    }

    fn start(&mut self) -> hooked::Joinable {
        fn body(thread: &Thread<'_>, _: &Hooked) {
            let state = thread.state();
            assert!(!matches!(state, State::Unregistered | State::Exiting));
        }
        self.inspect();
        hooked::start_joinable_on(self.stack, body, 0).unwrap()
    }

    fn join(&mut self, thread: hooked::Joinable) {
        let area: *const Area = &thread.hooked().area;
        let (stack, ended) = thread.join_keeping_stack().unwrap();
        // SAFETY: recycle (1) the thread is gone and its stack is still there.
        let state = unsafe {
            ended.recycle(&*area);
            (*area).state()
        };
        assert_eq!(state, State::Unregistered, "recycled");
        let guard = mm::page_size();
        // SAFETY: fill (1) all but the guard; no thread runs there until the poison is taken away.
        let poison = unsafe { Poison::fill(stack.base().wrapping_add(guard), stack.len() - guard) };
        self.poison = Some(poison);
    }
}

pub(super) fn keep_reuse(ctx: &Ctx<'_>) {
    init(ctx);
    let rounds = ctx.scale(10_000, 500, 100);
    let mut stacks: [_; 4] = core::array::from_fn(|_| Reused::map());
    for _ in 0..rounds {
        // Half of the threads run while the other half's memory is poisoned.
        for half in stacks.chunks_mut(2) {
            let [one, two] = half else { unreachable!() };
            let threads = (one.start(), two.start());
            one.join(threads.0);
            two.join(threads.1);
        }
    }
    stacks.iter_mut().for_each(Reused::inspect);
    passed!("{} joins", rounds * 4);
}

/// A thread that reports that it is done, and lives on.
struct Lingering {
    area: Area,
    done: AtomicU32,
    over: AtomicU32,
    moves: AtomicU32,
}

fn linger(state: &Lingering) {
    // SAFETY: on_thread_create (1, 3) its own area, here; (2) violated: `reuse_early` does not wait for its end.
    let created = unsafe { RSEQ.on_thread_create(&state.area) };
    state.done.store(u32::from(created.is_ok()), Relaxed);
    let cpus = witness::cpus();
    // Each migration changes the ids.
    while state.over.load(Relaxed) == 0 {
        for cpu in cpus.iter() {
            let _ = sched::allow(0, &CpuSet::one(cpu));
            state.moves.fetch_add(1, Relaxed);
        }
    }
}

/// Id changes that the broken joiner waits for: so many that the result does not depend on scheduling.
const MOVES: u32 = 1000;

/// The broken joiner: takes "done" for the end, and reuses the area.
fn reuse_early(offset: usize, len: usize) {
    let lingering = Lingering {
        area: Area::new(),
        done: AtomicU32::new(0),
        over: AtomicU32::new(0),
        moves: AtomicU32::new(0),
    };
    let thread = thread::start(STACK, lingering, linger).unwrap();
    let lingering = thread.payload();
    sched::wait_until(|| lingering.done.load(Relaxed) != 0);
    let area = (&raw const lingering.area).cast_mut().cast::<u8>();
    // SAFETY: violated: the thread lives. This is the variant that must be seen.
    let poison = unsafe { Poison::fill(area.wrapping_add(offset), len) };
    let before = lingering.moves.load(Relaxed);
    while lingering.moves.load(Relaxed).wrapping_sub(before) < MOVES {
        if poison.stray().is_some() {
            process::exit_group(STRAY);
        }
        sched::relax();
    }
    lingering.over.store(1, Relaxed);
    thread.join().unwrap();
}

pub(super) fn too_early(ctx: &Ctx<'_>) {
    init(ctx);
    let reused = |offset, len| {
        let status = forked(|| {
            process::no_core_dump();
            reuse_early(offset, len);
        });
        status.unwrap()
    };
    // The whole area, with a critical section that does not exist; then only the ids.
    let whole = reused(0, 32);
    assert!(
        is_killed_or_stray(whole),
        "poison in a live area: {whole:?}"
    );
    let ids = reused(0, 8);
    assert!(is_killed_or_stray(ids), "poison in live ids: {ids:?}");
    passed!("all of the area: {whole}; the ids: {ids}");
}

/// A pool of one area, passed from thread to thread.
struct Pool {
    area: Area,
    turn: AtomicU32,
    /// Id changes by threads that have passed it on.
    moves: AtomicU32,
}

static POOL: Pool = Pool {
    area: Area::new(),
    turn: AtomicU32::new(0),
    moves: AtomicU32::new(0),
};
static WRONG: AtomicU64 = AtomicU64::new(0);
static THREADS: AtomicU32 = AtomicU32::new(0);

fn wait_for_turn(turn: u32) {
    sched::wait_until(|| POOL.turn.load(Relaxed) == turn);
}

/// Runs on the area of the previous thread, which still lives, until it is the next one's turn.
fn on_pooled_area(turn: &u32) {
    wait_for_turn(*turn);
    let thread = RSEQ.create(&POOL.area).unwrap();
    let cpus = witness::cpus();
    for cpu in cpus.iter() {
        let moved = sched::allow(0, &CpuSet::one(cpu)).is_ok();
        // Twice: a second writer takes a moment.
        for _ in 0..2 {
            if moved && RSEQ.current_cpu(&POOL.area) != Ok(cpu) {
                WRONG.fetch_add(1, Relaxed);
            }
            sched::relax();
        }
    }
    let gone = hooked::release(thread).unwrap();
    // SAFETY: recycle_area (1) signals are blocked, and there is no handler; exit (1) nothing waits to be dropped.
    unsafe {
        gone.recycle_area();
        pass_on(*turn, cpus);
        gone.exit(0)
    }
}

/// Passes the area on, and keeps moving until the next thread is done too.
fn pass_on(turn: u32, cpus: CpuSet) {
    let next = turn.wrapping_add(1);
    POOL.turn.store(next, Relaxed);
    while next < THREADS.load(Relaxed) && POOL.turn.load(Relaxed) == next {
        for cpu in cpus.iter() {
            let _ = sched::allow(0, &CpuSet::one(cpu));
            POOL.moves.fetch_add(1, Relaxed);
        }
    }
}

fn chain(threads: u32, body: fn(&u32)) {
    THREADS.store(threads, Relaxed);
    let mut before = None::<thread::Joinable<u32>>;
    for turn in 0..threads {
        let next = thread::start(STACK, turn, body).unwrap();
        if let Some(before) = before.replace(next) {
            before.join().unwrap();
        }
    }
    before.unwrap().join().unwrap();
}

pub(super) fn to_pool(ctx: &Ctx<'_>) {
    init(ctx);
    let threads = ctx.scale(2_000, 150, 50);
    chain(threads as u32, on_pooled_area);
    assert_eq!(WRONG.load(Relaxed), 0, "wrong reads of the CPU");
    assert_eq!(POOL.area.state(), State::Unregistered, "after the last one");
    passed!("{threads} threads on one area");
}

/// Id changes of the previous thread to wait for on each CPU.
const POOL_MOVES: u32 = 100;

/// The broken pool: the area is passed on while the kernel still writes to it for the previous thread.
fn on_stolen_area(turn: &u32) {
    wait_for_turn(*turn);
    // SAFETY: recycle (1) violated: the previous thread lives. This is the variant that must be seen.
    unsafe { Reclaimed::in_fork_child().recycle(&POOL.area) };
    // SAFETY: on_thread_create (1) violated, as above; (2) a static; (3) it stays here.
    let thread = unsafe { RSEQ.on_thread_create(&POOL.area) }.unwrap();
    assert_eq!(thread.state(), State::Registered(Owner::Runtime));
    let cpus = witness::cpus();
    // While the other thread moves; without a system call, after which the kernel would restore this thread's ids.
    for cpu in cpus.iter() {
        let moved = sched::allow(0, &CpuSet::one(cpu)).is_ok();
        let before = POOL.moves.load(Relaxed);
        while *turn > 0 && POOL.moves.load(Relaxed).wrapping_sub(before) < POOL_MOVES {
            if moved && RSEQ.current_cpu(&POOL.area) != Ok(cpu) {
                process::exit_group(STRAY);
            }
        }
    }
    pass_on(*turn, cpus);
}

pub(super) fn to_pool_registered(ctx: &Ctx<'_>) {
    init(ctx);
    let status = forked(|| {
        process::no_core_dump();
        chain(100, on_stolen_area);
    })
    .unwrap();
    assert!(
        is_killed_or_stray(status),
        "two threads on one area: {status:?}"
    );
    passed!("two threads on one area: {status}");
}
