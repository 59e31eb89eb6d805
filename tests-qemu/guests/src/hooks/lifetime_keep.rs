//! Memory that is used again: by the joiner after clear-tid, by a pool after release, and too early.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use linux_raw_sys::general::SIGSEGV;
use rseq_rt::{Area, Owner, Reclaimed, State, Thread};

use super::lifetime::init;
use super::lifetime_poison::Poison;
use crate::errno::Errno;
use crate::harness::{Ctx, Needs, Test, Verdict, failed, forked};
use crate::hooked::{self, Hooked, RSEQ};
use crate::stack::Stack;
use crate::sys::mm;
use crate::sys::process::{self, Status};
use crate::sys::sched::{self, CpuSet};
use crate::{check, passed, text, thread};

/// The family.
pub const TESTS: &[Test] = &[
    Test::new("lifetime/keep-reuse", keep_reuse),
    Test::new("lifetime/reuse-before-clear-tid-is-seen", too_early).needs(Needs::RSEQ.cpus(2)),
    Test::new("lifetime/release-to-pool", to_pool),
    Test::new("lifetime/pool-without-release-is-seen", to_pool_registered)
        .needs(Needs::RSEQ.cpus(2)),
];

const STACK: usize = 16 * 1024;

fn keep_reuse(ctx: &Ctx<'_>) -> Verdict {
    fn body(thread: &Thread<'_>, _: &Hooked) {
        if matches!(thread.state(), State::Unregistered | State::Exiting) {
            let _ = failed(text!("not created"));
        }
    }
    init(ctx)?;
    let rounds = ctx.scale(25_000, 500, 100);
    let page = mm::page_size();
    let mut stacks = [Stack::NONE; 4];
    let mut poisons = [const { None::<Poison> }; 4];
    for stack in &mut stacks {
        *stack = Stack::map(STACK)?;
    }
    for _ in 0..rounds {
        let mut threads = [const { None }; 4];
        // Half of them run while the other half's memory lies poisoned.
        for half in [0, 2] {
            for number in half..half + 2 {
                if let Some(poison) = poisons.get_mut(number).and_then(Option::take) {
                    check!(poison.inspect(), "poison");
                }
                if let (Some(stack), Some(place)) = (stacks.get(number), threads.get_mut(number)) {
                    *place = Some(hooked::start_joinable_on(*stack, body, number)?);
                }
            }
            for number in half..half + 2 {
                let Some(thread) = threads.get_mut(number).and_then(Option::take) else {
                    continue;
                };
                let area: *const Area = &thread.hooked().area;
                let Ok((stack, ended)) = thread.join_keeping_stack() else {
                    check!(false, "join");
                    continue;
                };
                // SAFETY: recycle (1) the thread is gone and its stack is still there.
                let state = unsafe {
                    ended.recycle(&*area);
                    (*area).state()
                };
                check!(state == State::Unregistered, "recycled, and not new");
                // SAFETY: fill (1) all but the guard; no thread runs there until the poison is taken away.
                let poison =
                    unsafe { Poison::fill(stack.base().wrapping_add(page), stack.len() - page) };
                if let Some(place) = poisons.get_mut(number) {
                    *place = Some(poison);
                }
            }
        }
    }
    for poison in poisons.into_iter().flatten() {
        check!(poison.inspect(), "poison");
    }
    passed!(rounds * 4, " joins")
}

/// A thread that says that it is done, and lives on.
struct Lingering {
    area: Area,
    done: AtomicU32,
    over: AtomicU32,
    moves: AtomicU32,
}

fn linger(state: &Lingering) {
    // SAFETY: on_thread_create (1, 3) its own area, here; (2) not at all: `reused_early` does not wait for its end.
    let created = unsafe { RSEQ.on_thread_create(&state.area) };
    state.done.store(u32::from(created.is_ok()), Relaxed);
    let cpus = sched::allowed().unwrap_or(CpuSet::empty());
    // Each move is a change of ids.
    while state.over.load(Relaxed) == 0 {
        for cpu in cpus.iter() {
            let _ = sched::allow(0, &CpuSet::one(cpu));
            state.moves.fetch_add(1, Relaxed);
        }
    }
}

/// Changes of ids that the broken joiner waits for: many, so that none depends on who runs when.
const MOVES: u32 = 1000;

const STRAY: i32 = 3;

/// The broken joiner: takes "done" for the end, and the area for its own again.
fn reused_early(offset: usize, len: usize) -> Result<(), Errno> {
    let lingering = thread::start(
        STACK,
        Lingering {
            area: Area::new(),
            done: AtomicU32::new(0),
            over: AtomicU32::new(0),
            moves: AtomicU32::new(0),
        },
        linger,
    )?;
    while lingering.payload().done.load(Relaxed) == 0 {
        sched::relax();
    }
    let area = (&raw const lingering.payload().area)
        .cast_mut()
        .cast::<u8>();
    // SAFETY: not at all: the thread lives. This is the variant that must be seen.
    let poison = unsafe { Poison::fill(area.wrapping_add(offset), len) };
    let before = lingering.payload().moves.load(Relaxed);
    while lingering.payload().moves.load(Relaxed).wrapping_sub(before) < MOVES {
        if poison.stray().is_some() {
            process::exit_group(STRAY);
        }
        sched::relax();
    }
    lingering.payload().over.store(1, Relaxed);
    lingering.join()
}

fn too_early(ctx: &Ctx<'_>) -> Verdict {
    init(ctx)?;
    let seen = |offset, len| {
        forked(|| {
            process::no_core_dump();
            if reused_early(offset, len).is_err() {
                process::exit_group(2);
            }
        })
    };
    let killed = Status::Killed(SIGSEGV as i32);
    // The whole of it, with a critical section that never was; then the ids alone.
    let whole = seen(0, 32)?;
    check!(
        whole == killed || whole == Status::Exited(STRAY),
        "poison in a live area: ",
        whole
    );
    let ids = seen(0, 8)?;
    check!(
        ids == killed || ids == Status::Exited(STRAY),
        "poison in live ids: ",
        ids
    );
    passed!("all of the area: ", whole, "; the ids: ", ids)
}

/// One place in a pool, handed from thread to thread.
struct Place {
    area: Area,
    /// Whose turn it is.
    turn: AtomicU32,
}

static PLACE: Place = Place {
    area: Area::new(),
    turn: AtomicU32::new(0),
};
static WRONG: AtomicU64 = AtomicU64::new(0);
static THREADS: AtomicU32 = AtomicU32::new(0);

/// On the area of the one before, which still lives, until it is the turn of the next.
fn on_pooled_area(turn: &u32) {
    while PLACE.turn.load(Relaxed) != *turn {
        sched::relax();
    }
    // SAFETY: on_thread_create (1) recycled by the thread whose turn it was; (2) a static; (3) it stays here.
    let Ok(thread) = (unsafe { RSEQ.on_thread_create(&PLACE.area) }) else {
        let _ = failed(text!("the pooled area was not new"));
        process::exit_group(1);
    };
    let cpus = look_on_each_cpu();
    match hooked::release(thread) {
        // SAFETY: recycle_area (1) signals are blocked, and no handler is there.
        Ok(gone) => unsafe {
            gone.recycle_area();
            pass_on(*turn, cpus);
            // SAFETY: exit (1) nothing waits to be dropped.
            gone.exit(0)
        },
        Err(_) => {
            let _ = failed(text!("not released"));
            process::exit_group(1);
        }
    }
}

/// Counts in [`WRONG`] how often the area and the kernel disagree.
fn look_on_each_cpu() -> CpuSet {
    let cpus = sched::allowed().unwrap_or(CpuSet::empty());
    for cpu in cpus.iter() {
        let moved = sched::allow(0, &CpuSet::one(cpu)).is_ok();
        // Twice: another writer needs a moment.
        for _ in 0..2 {
            if moved && RSEQ.current_cpu(&PLACE.area) != Ok(cpu) {
                WRONG.fetch_add(1, Relaxed);
            }
            sched::relax();
        }
    }
    cpus
}

/// The area is the next one's: lives on, and moves about, until that one is done too.
fn pass_on(turn: u32, cpus: CpuSet) {
    let next = turn.wrapping_add(1);
    PLACE.turn.store(next, Relaxed);
    while next < THREADS.load(Relaxed) && PLACE.turn.load(Relaxed) == next {
        for cpu in cpus.iter() {
            let _ = sched::allow(0, &CpuSet::one(cpu));
        }
    }
}

fn chain(threads: u32, body: fn(&u32)) -> Result<(), Errno> {
    THREADS.store(threads, Relaxed);
    let mut before = None::<thread::Joinable<u32>>;
    for turn in 0..threads {
        let next = thread::start(STACK, turn, body)?;
        if let Some(before) = before.replace(next) {
            before.join()?;
        }
    }
    before.map_or(Ok(()), thread::Joinable::join)
}

fn to_pool(ctx: &Ctx<'_>) -> Verdict {
    init(ctx)?;
    let threads = ctx.scale(10_000, 150, 50);
    chain(threads as u32, on_pooled_area)?;
    let wrong = WRONG.load(Relaxed);
    check!(wrong == 0, "the area lied ", wrong, " times");
    check!(
        PLACE.area.state() == State::Unregistered,
        "the last one did not leave a new area"
    );
    passed!(threads, " threads on one area")
}

/// The broken pool: the area is handed on while the kernel still writes to it for the thread before.
fn on_stolen_area(turn: &u32) {
    while PLACE.turn.load(Relaxed) != *turn {
        sched::relax();
    }
    // SAFETY: recycle (1) not at all: the thread before lives. This is the variant that must be seen.
    unsafe { Reclaimed::in_fork_child().recycle(&PLACE.area) };
    // SAFETY: on_thread_create (1) not at all, as above; (2) a static; (3) it stays here.
    let created = unsafe { RSEQ.on_thread_create(&PLACE.area) };
    if !created.is_ok_and(|thread| thread.state() == State::Registered(Owner::Runtime)) {
        process::exit_group(4);
    }
    let cpus = watch_on_each_cpu();
    pass_on(*turn, cpus);
}

/// Watches the ids for long enough that the other thread's are written, without a system call, after which the kernel
/// would put this thread's own back. A realtime kernel shows them in no shorter look.
fn watch_on_each_cpu() -> CpuSet {
    let cpus = sched::allowed().unwrap_or(CpuSet::empty());
    for cpu in cpus.iter() {
        let moved = sched::allow(0, &CpuSet::one(cpu)).is_ok();
        let strange = |_| RSEQ.current_cpu(&PLACE.area) != Ok(cpu);
        if moved && (0..100_000).any(strange) {
            process::exit_group(STRAY);
        }
    }
    cpus
}

fn to_pool_registered(ctx: &Ctx<'_>) -> Verdict {
    init(ctx)?;
    let status = forked(|| {
        process::no_core_dump();
        let ended = chain(100, on_stolen_area);
        process::exit_group(if ended.is_err() { 2 } else { 0 });
    })?;
    check!(
        status == Status::Killed(SIGSEGV as i32) || status == Status::Exited(STRAY),
        "two threads on one area: ",
        status
    );
    passed!("two threads on one area: ", status)
}
