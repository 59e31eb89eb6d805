//! Threads that unmap the memory they stand on: with the registration still there they die, released they live.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use linux_raw_sys::general::SIGSEGV;
use rseq_rt::{ClearTid, Owner, SignalMask, State, Thread, arch};

use super::lifetime_poison::Poisoner;
use crate::errno::Errno;
use crate::harness::{Ctx, Failed, Needs, Test, Verdict, expect_killed_by};
use crate::hooked::{self, Hooked, RSEQ};
use crate::stack::Stack;
use crate::sys::sched::{self, CpuSet};
use crate::sys::{process, signal, task};
use crate::{check, passed, tcb};

/// The family.
pub const TESTS: &[Test] = &[
    // From Linux 6.19 the kernel writes to the area only when an id changes, and with one CPU none does.
    Test::new("lifetime/unmap-while-registered-is-fatal", fatal).needs(Needs::RSEQ.cpus(2)),
    Test::new("lifetime/release-self-unmap", released),
];

const STACK: usize = 16 * 1024;

/// Initialises the process's rseq.
pub(super) fn init(ctx: &Ctx<'_>) -> Result<(), Failed> {
    check!(RSEQ.init(hooked::config(ctx.env)) == Ok(None), "init");
    Ok(())
}

/// The broken exit: signals are blocked, the registration is there, the memory goes. The
/// argument says if the clear-tid word goes with it.
pub(super) fn unmap_registered(_: &Thread<'_>, hooked: &Hooked) {
    let stack = tcb::current().stack();
    let Ok(_blocked) = SignalMask::block_all() else {
        return;
    };
    // SAFETY: set_clear_tid (1) null; unmap_and_exit not at all: the kernel still writes to the area. This is the
    // variant that must die.
    unsafe {
        if hooked.argument != 0 {
            task::set_clear_tid(core::ptr::null_mut());
        }
        arch::unmap_and_exit(stack.base(), stack.len(), 0)
    }
}

fn fatal(ctx: &Ctx<'_>) -> Verdict {
    static END: ClearTid = ClearTid::new();
    static BROKEN: AtomicU32 = AtomicU32::new(0);
    fn body(thread: &Thread<'_>, hooked: &Hooked) {
        BROKEN.store(process::gettid(), Relaxed);
        unmap_registered(thread, hooked);
    }
    fn one(cpus: CpuSet) -> Result<(), Errno> {
        BROKEN.store(0, Relaxed);
        hooked::start_watched(Stack::map(STACK)?, body, 0, &END)?;
        // From Linux 6.19 the kernel writes to the area only when an id changes, so keep the thread moving.
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
        Ok(())
    }
    init(ctx)?;
    let threads = ctx.scale(20_000, 5_000, 0);
    let cpus = sched::allowed()?;
    expect_killed_by(SIGSEGV as i32, || {
        for _ in 0..threads {
            if one(cpus).is_err() {
                process::exit_group(2);
            }
        }
    })?;
    passed!("killed within ", threads, " threads")
}

/// One of the threads alive.
struct Slot {
    // 0: free. NOT_SAID: started, and its id is still to come.
    tid: AtomicU32,
    clear_tid: ClearTid,
}

const NOT_SAID: u32 = u32::MAX;
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
    fn start(&'static self, number: usize) -> Result<(), Errno> {
        self.tid.store(NOT_SAID, Relaxed);
        if number.is_multiple_of(2) {
            hooked::start_detached(STACK, say_tid, number)
        } else {
            hooked::start_watched(Stack::map(STACK)?, say_tid, number, &self.clear_tid)
        }
    }

    /// Waits until the kernel knows no such thread. `false` if the clear-tid word says otherwise.
    fn wait(&self, number: usize) -> bool {
        let mut ended = None;
        if !number.is_multiple_of(2) && self.tid.load(Relaxed) != 0 {
            ended = self.clear_tid.wait().ok();
        }
        loop {
            match self.tid.load(Relaxed) {
                0 => return true,
                NOT_SAID => {}
                // A new thread may get the same id; it goes too.
                tid if signal::kill_thread(tid, 0) == Err(Errno::SRCH) => break,
                _ => {}
            }
            sched::relax();
        }
        self.tid.store(0, Relaxed);
        if let Some(ended) = &ended {
            self.clear_tid.rearm(ended);
        }
        number.is_multiple_of(2) || ended.is_some()
    }
}

fn say_tid(thread: &Thread<'_>, hooked: &Hooked) {
    if thread.state() == State::Registered(Owner::Runtime) {
        REGISTERED.fetch_add(1, Relaxed);
    }
    if let Some(slot) = SLOTS.get(hooked.argument) {
        slot.tid.store(process::gettid(), Relaxed);
    }
}

fn released(ctx: &Ctx<'_>) -> Verdict {
    init(ctx)?;
    let rounds = ctx.scale(6_250, 130, 25);
    let probe = Stack::map(STACK)?;
    let len = probe.len();
    // SAFETY: no thread runs on it.
    unsafe { probe.unmap()? };
    let poisoner = Poisoner::start(len)?;
    for _ in 0..rounds {
        for (number, slot) in SLOTS.iter().enumerate() {
            check!(slot.wait(number), "clear-tid did not come");
            slot.start(number)?;
        }
    }
    for (number, slot) in SLOTS.iter().enumerate() {
        check!(slot.wait(number), "clear-tid did not come");
    }
    let ranges = poisoner.stop()?;
    let (threads, registered) = (rounds * ALIVE as u64, REGISTERED.load(Relaxed));
    let expected = if ctx.facts.rseq.is_ok() { threads } else { 0 };
    check!(
        registered == expected,
        registered,
        " threads of ",
        threads,
        " were registered"
    );
    passed!(threads, " threads, ", ranges, " ranges of poison")
}
