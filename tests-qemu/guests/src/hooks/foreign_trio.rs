//! A libc that exports `__rseq_offset`, `__rseq_size` and `__rseq_flags`, played by the test; all else is Linux.

use core::mem::offset_of;
use core::sync::atomic::{AtomicIsize, AtomicU32, Ordering::Relaxed};

use linux_raw_sys::general::{__NR_getcpu, __NR_rseq};
use rseq_rt::abi::Rseq;
use rseq_rt::arch::SIGNATURE;
use rseq_rt::{Area, Claim, Config, Errno, Kernel, Linux, Owner, Process, Reason, State, Trio};

use super::filtered::STACK;
use super::foreign::Foreign;
use crate::harness::{Ctx, Failed, PASSED, Verdict};
use crate::hooked;
use crate::seccomp::{self, Answer, When};
use crate::sys::process;
use crate::sys::sched::{self, CpuSet};
use crate::{check, other_calls_of_linux, thread};

static OFFSET: AtomicIsize = AtomicIsize::new(0);
static SIZE: AtomicU32 = AtomicU32::new(0);

/// From here on the libc's area of the calling thread is where this `cpu_id` is.
pub(super) fn export(cpu_id: *const u8) {
    let area = cpu_id.addr().wrapping_sub(offset_of!(Rseq, cpu_id));
    // SAFETY: thread_pointer (1): the entry code, or the start of the thread, has set it up.
    let pointer = unsafe { Linux.thread_pointer() };
    let offset = area.wrapping_sub(pointer.addr());
    OFFSET.store(offset as isize, Relaxed);
    SIZE.store(32, Relaxed);
}

/// The kernel under such a libc.
#[derive(Clone, Copy)]
pub(super) struct Libc;

// SAFETY: Kernel (1, 2) Linux's own calls; (3) the trio is of an area that the test registered.
unsafe impl Kernel for Libc {
    unsafe fn rseq(
        &self,
        area: *const Rseq,
        length: u32,
        flags: u32,
        signature: u32,
    ) -> Result<(), Errno> {
        // SAFETY: Kernel::rseq (1) is this function's (1).
        unsafe { Linux.rseq(area, length, flags, signature) }
    }

    fn libc_trio(&self) -> Option<Trio> {
        Some(Trio {
            offset: OFFSET.load(Relaxed),
            size: SIZE.load(Relaxed),
            flags: 0,
        })
    }

    other_calls_of_linux!();
}

static PROCESS: Process<Libc> = Process::with_kernel(Libc);
const LIBCS: State = State::Registered(Owner::Libc);

/// What the libc has in each of its threads' control blocks: at one offset from the thread pointer.
struct Block {
    libc: Foreign,
    ours: Area,
    config: Config,
    body: fn(&Block) -> Result<(), Failed>,
}

/// Runs `body` on a thread of the libc, the first of which initialises our side.
fn on_libc_thread(config: Config, body: fn(&Block) -> Result<(), Failed>) -> Result<(), Failed> {
    let block = Block {
        libc: Foreign::new(),
        ours: Area::new(),
        config,
        body,
    };
    let run = |block: &Block| {
        export(core::ptr::from_ref(&block.libc.as_rseq().cpu_id).cast());
        let _ = PROCESS.init(block.config);
        let _ = (block.body)(block);
    };
    thread::start(STACK, block, run)?.join()?;
    Ok(())
}

/// Right on each CPU, from the libc's area where it has one and from getcpu(2) elsewhere.
#[track_caller]
fn right_everywhere(area: &Area) -> Result<(), Failed> {
    let allowed = sched::allowed()?;
    for cpu in allowed.iter() {
        sched::allow(process::gettid(), &CpuSet::one(cpu))?;
        let seen = PROCESS.current_cpu(area);
        check!(seen == Ok(cpu), "not on CPU ", cpu);
        let node = sched::getcpu()?.1;
        check!(PROCESS.current_node(area) == Ok(node), "not on node ", node);
    }
    sched::allow(process::gettid(), &allowed)?;
    Ok(())
}

pub(super) fn in_sight(ctx: &Ctx<'_>) -> Verdict {
    /// Only rseq(2) is the libc's, and getcpu(2) is not needed.
    fn body(block: &Block) -> Result<(), Failed> {
        block.libc.register(32, SIGNATURE)?;
        let rest = block.libc.rest();
        seccomp::install(__NR_rseq, When::Always, Answer::Kill)?;
        // SAFETY: on_thread_create, ensure_registered (1, 2) the block is this thread's and outlives it; (3) it
        // stays here.
        let thread = unsafe { PROCESS.on_thread_create(&block.ours) };
        let Ok(thread) = thread else {
            check!(false, "the create hook");
            return Ok(());
        };
        check!(thread.state() == LIBCS, "the state");
        // SAFETY: as above.
        let again = unsafe { PROCESS.ensure_registered(&block.ours) };
        check!(again == Ok(LIBCS), "ensure_registered");
        right_everywhere(&block.ours)?;
        let cid = PROCESS.current_mm_cid(&block.ours);
        let known = PROCESS.feature_size() >= 28;
        check!(cid.is_some() == known, "an mm_cid that is not there");
        seccomp::install(__NR_getcpu, When::Always, Answer::Kill)?;
        check!(
            PROCESS.current_cpu(&block.ours).is_ok(),
            "the libc's area was not read"
        );
        block.libc.follows();
        check!(block.libc.rest() == rest, "the libc's area changed");
        check!(hooked::release(thread).is_ok(), "release");
        block.libc.follows();
        Ok(())
    }
    let config = hooked::config(ctx.env).claim(Claim::Detect);
    for _ in 0..3 {
        on_libc_thread(config, body)?;
        check!(PROCESS.owner() == Some(Owner::Libc), "the owner");
        check!(PROCESS.length() == 0, "a length");
        check!(PROCESS.reason().is_none(), "a reason");
    }
    PASSED
}

/// A thread that the libc did not register, as its own filter came late: its area is there and says so.
pub(super) fn thread_without(ctx: &Ctx<'_>) -> Verdict {
    fn body(block: &Block) -> Result<(), Failed> {
        seccomp::install(__NR_rseq, When::Always, Answer::Kill)?;
        for says in [-1, -2] {
            block.libc.as_rseq().cpu_id.store(says, Relaxed);
            // SAFETY: ensure_registered (1, 2) the block is this thread's and outlives it.
            let state = unsafe { PROCESS.ensure_registered(&block.ours) };
            check!(state == Ok(LIBCS), "the state");
            right_everywhere(&block.ours)?;
            check!(PROCESS.current_mm_cid(&block.ours).is_none(), "an mm_cid");
            let now = block.libc.as_rseq().cpu_id.load(Relaxed);
            check!(now == says, "the libc's cpu_id became ", now);
        }
        Ok(())
    }
    on_libc_thread(hooked::config(ctx.env).claim(Claim::Libc), body)?;
    PASSED
}

/// Size 0: the libc's registration is turned off. Then it is ours, unless the runtime's word is that it is not.
pub(super) fn libc_failed(ctx: &Ctx<'_>) -> Verdict {
    static SECOND: Process<Libc> = Process::with_kernel(Libc);
    static AREA: Area = Area::new();
    let config = hooked::config(ctx.env);
    let claimed = SECOND.init(config.claim(Claim::Libc));
    check!(claimed == Ok(Some(Owner::Libc)), "the runtime's word");
    check!(SECOND.reason() == Some(Reason::Taken), "the reason");
    check!(
        PROCESS.init(config.claim(Claim::Detect)) == Ok(None),
        "init"
    );
    // SAFETY: on_thread_create (1, 2) AREA is this thread's for ever; (3) it stays here.
    let thread = unsafe { PROCESS.on_thread_create(&AREA) };
    let ours = State::Registered(Owner::Runtime);
    check!(
        thread.is_ok_and(|thread| thread.state() == ours),
        "the state"
    );
    right_everywhere(&AREA)?;
    PASSED
}
