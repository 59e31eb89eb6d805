//! Threads that unmap their own stack: while registered they die, released they live.

pub mod kept;
pub mod poison;
mod reuse;
mod scoped;
mod traced;
mod view;

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use linux_raw_sys::general::SIGSEGV;
use rseq_rt::{ClearTid, Owner, SignalMask, State, Thread, arch};

use self::poison::Poisoner;
use super::common::{Hooks as _, init};
use crate::harness::{Ctx, Needs, Test, must_die, passed};
use crate::hooked::{self, Hooked, RSEQ};
use crate::stack::Stack;
use crate::sys::sched::{self, CpuSet};
use crate::sys::{process, signal, task};
use crate::tcb;

#[rustfmt::skip] // a table
pub const TESTS: &[Test] = &[
    // From Linux 6.19 on the kernel writes to the area only when an id changes, which never happens with one CPU.
    Test::new("lifetime/unmap-while-registered-is-fatal", fatal).needs(ON_TWO_CPUS),
    Test::new("lifetime/release-self-unmap", released),
    Test::new("lifetime/unmap-while-registered-dies-at-once", traced::dies_at_once).needs(PTRACED_ON_TWO_CPUS),
    Test::new("lifetime/release-survives-the-same", traced::survives).needs(PTRACED_ON_TWO_CPUS),
    Test::new("lifetime/clear-tid-lie-is-a-stray-write", traced::lie).needs(Needs::PTRACE),
    Test::new("lifetime/clear-tid-truth-is-none", traced::truth).needs(Needs::PTRACE),
    Test::new("lifetime/kernel-knows-what-the-state-says", view::agrees).needs(Needs::RSEQ.and(Needs::PTRACE)),
    Test::new("lifetime/keep-reuse", reuse::keep_reuse),
    Test::new("lifetime/reuse-before-clear-tid-is-seen", reuse::too_early).needs(ON_TWO_CPUS),
    Test::new("lifetime/release-to-pool", reuse::to_pool),
    Test::new("lifetime/pool-without-release-is-seen", reuse::to_pool_registered).needs(ON_TWO_CPUS),
    Test::new("lifetime/taken-thread-is-kept-and-swept", kept::taken_and_swept).needs(Needs::RSEQ),
    Test::new("lifetime/taken-thread-unmapped-is-fatal", kept::taken_and_unmapped).needs(ON_TWO_CPUS),
    Test::new("lifetime/clear-tid-that-stays-is-a-leak", kept::leaks).needs(Needs::SECCOMP),
    Test::new("lifetime/scoped", scoped::scoped),
    Test::new("lifetime/scoped-dropped", scoped::dropped),
    Test::new("lifetime/scoped-unmapped-early-is-fatal", scoped::unmapped_early).needs(ON_TWO_CPUS),
];

const ON_TWO_CPUS: Needs = Needs::RSEQ.cpus(2);
const PTRACED_ON_TWO_CPUS: Needs = ON_TWO_CPUS.and(Needs::PTRACE);

const STACK: usize = 16 * 1024;

/// The calling thread's value once more, for an exit by hand: the caller of the hook makes no further use of its own.
pub(super) fn owned(hooked: &Hooked) -> Thread<'_> {
    RSEQ.thread_of(&hooked.area).unwrap()
}

/// Waits for the end of the thread `tid`.
fn wait_for(tid: u32) {
    sched::wait_until(|| signal::kill_thread(tid, 0).is_err());
}

/// The broken exit: signals are blocked, the thread is registered, the memory is unmapped. With a non-zero argument the
/// clear-tid word is in it.
fn unmap_registered(_: &Thread<'_>, hooked: &Hooked) {
    let stack = tcb::current().stack();
    let _blocked = SignalMask::block_all().unwrap();
    // SAFETY: set_clear_tid (1) null; unmap_and_exit violated: the kernel still writes to the area. This is the variant
    // that must die.
    unsafe {
        if hooked.argument != 0 {
            task::set_clear_tid(core::ptr::null_mut());
        }
        arch::unmap_and_exit(stack.base(), stack.len(), 0)
    }
}

fn fatal(ctx: &Ctx<'_>) {
    static END: ClearTid = ClearTid::new();
    static BROKEN: AtomicU32 = AtomicU32::new(0);
    fn body(thread: &Thread<'_>, hooked: &Hooked) {
        BROKEN.store(process::gettid(), Relaxed);
        unmap_registered(thread, hooked);
    }
    fn one(cpus: CpuSet) {
        BROKEN.store(0, Relaxed);
        hooked::start_watched(Stack::map(STACK).unwrap(), body, 0, &END).unwrap();
        // Moving, so that the ids change.
        let ended = loop {
            if let Some(ended) = END.try_reclaim() {
                break ended;
            }
            let tid = BROKEN.load(Relaxed);
            for cpu in cpus.iter().filter(|_| tid != 0) {
                let _ = sched::allow(tid, &CpuSet::one(cpu));
            }
        };
        END.rearm(&ended);
    }
    init(ctx);
    let threads = ctx.scale(20_000, 5_000, 0);
    let cpus = sched::allowed().unwrap();
    must_die(SIGSEGV as i32, || (0..threads).for_each(|_| one(cpus)));
    passed!("killed within {threads} threads");
}

/// A slot for one of the live threads.
struct Slot {
    // 0: free. STARTED: its tid is not known yet.
    tid: AtomicU32,
    clear_tid: ClearTid,
}

const STARTED: u32 = u32::MAX;
const ALIVE: usize = 16;
static SLOTS: [Slot; ALIVE] = [const {
    Slot {
        tid: AtomicU32::new(0),
        clear_tid: ClearTid::new(),
    }
}; ALIVE];
static REGISTERED: AtomicU64 = AtomicU64::new(0);

impl Slot {
    /// Every other thread keeps its clear-tid word outside its mapping.
    fn start(&'static self, number: usize) {
        self.tid.store(STARTED, Relaxed);
        if number.is_multiple_of(2) {
            hooked::start_detached(STACK, publish_tid, number)
        } else {
            let stack = Stack::map(STACK).unwrap();
            hooked::start_watched(stack, publish_tid, number, &self.clear_tid)
        }
        .unwrap();
    }

    /// Waits until the kernel has no such thread.
    fn wait(&self, number: usize) {
        if self.tid.load(Relaxed) == 0 {
            return;
        }
        if !number.is_multiple_of(2) {
            let ended = self.clear_tid.wait().unwrap();
            self.clear_tid.rearm(&ended);
        }
        sched::wait_until(|| self.tid.load(Relaxed) != STARTED);
        // A new thread may get the same id; it goes too.
        wait_for(self.tid.load(Relaxed));
        self.tid.store(0, Relaxed);
    }
}

fn publish_tid(thread: &Thread<'_>, hooked: &Hooked) {
    if thread.state() == State::Registered(Owner::Runtime) {
        REGISTERED.fetch_add(1, Relaxed);
    }
    SLOTS[hooked.argument].tid.store(process::gettid(), Relaxed);
}

fn released(ctx: &Ctx<'_>) {
    init(ctx);
    let rounds = ctx.scale(2_500, 130, 25);
    let probe = Stack::map(STACK).unwrap();
    let len = probe.len();
    // SAFETY: no thread runs on it.
    unsafe { probe.unmap().unwrap() };
    let poisoner = Poisoner::start(len).unwrap();
    for _ in 0..rounds {
        for (number, slot) in SLOTS.iter().enumerate() {
            slot.wait(number);
            slot.start(number);
        }
    }
    for (number, slot) in SLOTS.iter().enumerate() {
        slot.wait(number);
    }
    let ranges = poisoner.stop().unwrap();
    let threads = rounds * ALIVE as u64;
    let expected = if ctx.facts.rseq.is_ok() { threads } else { 0 };
    assert_eq!(REGISTERED.load(Relaxed), expected, "of {threads} threads");
    passed!("{threads} threads, {ranges} ranges of poison");
}
