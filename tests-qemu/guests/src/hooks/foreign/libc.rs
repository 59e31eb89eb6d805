//! A libc that exports `__rseq_offset`, `__rseq_size` and `__rseq_flags`, simulated by the test; the rest is Linux.

use core::mem::offset_of;
use core::sync::atomic::{AtomicIsize, AtomicU32, Ordering::Relaxed};

use linux_raw_sys::general::{__NR_getcpu, __NR_rseq};
use rseq_rt::abi::Rseq;
use rseq_rt::arch::SIGNATURE;
use rseq_rt::{Area, Claim, Config, Kernel, Linux, Owner, Process, Reason, State, Trio};

use super::{Foreign, STACK};
use crate::harness::Ctx;
use crate::hooked;
use crate::hooks::common::Hooks as _;
use crate::seccomp::{self, Answer, When};
use crate::sys::sched;
use crate::{calls_of_linux, thread, witness};

static OFFSET: AtomicIsize = AtomicIsize::new(0);
static SIZE: AtomicU32 = AtomicU32::new(0);

/// From here on the libc's area of the calling thread is where this `cpu_id` is, with 32 bytes.
pub fn export(cpu_id: *const u8) {
    export_sized(cpu_id, 32);
}

/// The same with another size.
pub fn export_sized(cpu_id: *const u8, size: u32) {
    let area = cpu_id.addr().wrapping_sub(offset_of!(Rseq, cpu_id));
    // SAFETY: thread_pointer (1): the entry code, or the start of the thread, has set it up.
    let pointer = unsafe { Linux.thread_pointer() };
    let offset = area.wrapping_sub(pointer.addr());
    OFFSET.store(offset as isize, Relaxed);
    SIZE.store(size, Relaxed);
}

/// The kernel under such a libc.
#[derive(Clone, Copy)]
pub struct Libc;

// SAFETY: Kernel (1, 2) Linux's own calls; (3) the trio describes an area that the test registered.
unsafe impl Kernel for Libc {
    fn libc_trio(&self) -> Option<Trio> {
        Some(Trio {
            offset: OFFSET.load(Relaxed),
            size: SIZE.load(Relaxed),
            flags: 0,
        })
    }

    calls_of_linux!(rseq set_signal_mask getcpu futex_wait slice_yield slice_extension probe_write thread_pointer);
}

static PROCESS: Process<Libc> = Process::with_kernel(Libc);
const LIBCS: State = State::Registered(Owner::Libc);

/// The libc's part of each of its threads' control blocks: at one offset from the thread pointer.
struct Block {
    libc: Foreign,
    ours: Area,
    config: Config,
    body: fn(&Block),
}

/// Runs `body` on a thread of the libc, the first of which initialises our side.
fn on_libc_thread(config: Config, body: fn(&Block)) {
    let block = Block {
        libc: Foreign::new(),
        ours: Area::new(),
        config,
        body,
    };
    let run = |block: &Block| {
        export(core::ptr::from_ref(&block.libc.as_rseq().cpu_id).cast());
        let _ = PROCESS.init(block.config);
        (block.body)(block);
    };
    thread::run(STACK, block, run);
}

/// The CPU is right everywhere, read from the libc's area where it has one and by getcpu(2) elsewhere.
#[track_caller]
fn right_everywhere(area: &Area) {
    witness::on_each_cpu(|cpu| {
        let (_, node) = sched::getcpu().unwrap();
        assert_eq!(PROCESS.current_cpu(area), Ok(cpu));
        assert_eq!(PROCESS.current_node(area), Ok(node));
    });
}

pub fn in_sight(ctx: &Ctx) {
    /// Only rseq(2) is the libc's, and getcpu(2) is not needed.
    fn body(block: &Block) {
        let (libc, ours) = (&block.libc, &block.ours);
        libc.register(32, SIGNATURE).unwrap();
        let rest = libc.rest();
        seccomp::install(__NR_rseq, When::Always, Answer::Kill).unwrap();
        let thread = PROCESS.create(ours).unwrap();
        assert_eq!(thread.state(), LIBCS);
        assert_eq!(PROCESS.ensure(ours), Ok(LIBCS));
        right_everywhere(ours);
        let known = PROCESS.feature_size() >= 28;
        assert_eq!(PROCESS.current_mm_cid(ours).is_some(), known);
        seccomp::install(__NR_getcpu, When::Always, Answer::Kill).unwrap();
        PROCESS.current_cpu(ours).unwrap();
        libc.follows();
        assert_eq!(libc.rest(), rest);
        let _ = hooked::release(thread).unwrap();
        libc.follows();
    }
    let config = hooked::config(ctx.env).claim(Claim::Detect);
    for _ in 0..3 {
        on_libc_thread(config, body);
        assert_eq!(PROCESS.owner(), Some(Owner::Libc));
        assert_eq!((PROCESS.length(), PROCESS.reason()), (0, None));
    }
}

/// A thread that the libc did not register, because its own filter came late: its area exists and says so.
pub fn thread_without(ctx: &Ctx) {
    fn body(block: &Block) {
        seccomp::install(__NR_rseq, When::Always, Answer::Kill).unwrap();
        let cpu_id = &block.libc.as_rseq().cpu_id;
        for says in [-1, -2] {
            cpu_id.store(says, Relaxed);
            let state = PROCESS.ensure(&block.ours);
            assert_eq!(state, Ok(LIBCS));
            right_everywhere(&block.ours);
            assert_eq!(PROCESS.current_mm_cid(&block.ours), None);
            assert_eq!(cpu_id.load(Relaxed), says);
        }
    }
    on_libc_thread(hooked::config(ctx.env).claim(Claim::Libc), body);
}

/// Size 0: the libc's registration is off. Then rseq is ours, unless the runtime says otherwise.
pub fn libc_failed(ctx: &Ctx) {
    static SECOND: Process<Libc> = Process::with_kernel(Libc);
    static AREA: Area = Area::new();
    let config = hooked::config(ctx.env);
    assert_eq!(
        SECOND.init(config.claim(Claim::Libc)),
        Ok(Some(Owner::Libc))
    );
    assert_eq!(SECOND.reason(), Some(Reason::Taken));
    assert_eq!(PROCESS.init(config.claim(Claim::Detect)), Ok(None));
    let thread = PROCESS.create(&AREA).unwrap();
    assert_eq!(thread.state(), State::Registered(Owner::Runtime));
    right_everywhere(&AREA);
}
