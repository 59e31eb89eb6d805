//! vfork(2): the child is unregistered, and sees its parent's area frozen.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;
use linux_raw_sys::general::{SIGSEGV, SIGUSR1, siginfo_t};

use rseq_rt::{Area, Config, Error, SliceEnd, State, Thread, arch};

use crate::errno::Errno;
use crate::harness::{Ctx, forked, must_die, passed, vforked};
use crate::hooked::{self, Hooked, RSEQ};
use crate::hooks::common::{
    Hooks as _, at, init, is_ours, joined_at_once, main_thread, main_thread_with, right_everywhere,
};
use crate::stack::Stack;
use crate::sys::process::{self, Status, exit_group};
use crate::sys::rseq::rseq;
use crate::sys::sched::{self, CpuSet};
use crate::sys::signal::kill_thread;
use crate::{signals, witness};

/// Handlers run on it too, with the CPU's whole state above them.
const STACK: usize = 64 * 1024;

#[track_caller]
fn vfork(stack: Stack, body: impl FnOnce()) {
    assert_eq!(vforked(stack, body), Ok(Status::Exited(0)), "the child");
}

/// In the child of a thread that lent its area: nothing is trusted or touched.
fn in_lent_child(area: &Area) {
    let frozen = area.cpu_id();
    assert_eq!(area.state(), State::Lent);
    witness::on_each_cpu(|cpu| {
        let (_, node) = sched::getcpu().unwrap();
        assert_eq!(RSEQ.current_cpu(area), Ok(cpu));
        assert_eq!(RSEQ.current_node(area), Ok(node));
        assert_eq!(RSEQ.current_mm_cid(area), None);
    });
    assert_eq!(RSEQ.create(area).unwrap_err(), Error::Lent);
    assert_eq!(RSEQ.ensure(area), Ok(State::Lent));
    assert_eq!(RSEQ.thread_of(area).unwrap_err(), Error::Lent);
    let request = area.request_slice();
    let control = witness::rseq_of(area).slice_ctrl.load(Relaxed);
    assert_eq!(control, 0, "wrote to the parent's area");
    assert_eq!(area.yield_slice(request), SliceEnd::Off);
    // The kernel knows neither this area nor another one of the child.
    // SAFETY: (1, 2) refused, since nothing is registered.
    let answer = unsafe { rseq(at(area), RSEQ.length(), 1, arch::SIGNATURE) };
    assert!(
        matches!(answer, Err(Errno::INVAL | Errno::NOSYS)),
        "{answer:?}"
    );
    assert_eq!(area.cpu_id(), frozen);
}

/// Lends, lets the child check, and checks that the parent is unchanged.
fn lend_and_look(thread: &Thread<'_>, stack: Stack) {
    let area = thread.area();
    let before = area.state();
    let slice = area.has_slice_extension();
    let lent = thread.lend();
    vfork(stack, || in_lent_child(area));
    assert_eq!(area.state(), State::Lent, "the loan ended by itself");
    lent.end();
    assert_eq!(area.state(), before);
    assert_eq!(area.has_slice_extension(), slice);
    assert_eq!(witness::kernel_knows(area), is_ours(before));
    right_everywhere(area);
}

pub fn lent(ctx: &Ctx) {
    let thread = main_thread_with(hooked::config(ctx.env).slice_extension());
    let stack = Stack::map(STACK).unwrap();
    for _ in 0..ctx.scale(500, 50, 0) {
        lend_and_look(&thread, stack);
    }
}

pub fn from_threads(ctx: &Ctx) {
    fn body(thread: &Thread<'_>, hooked: &Hooked) {
        let stack = Stack::map(STACK).unwrap();
        for _ in 0..hooked.argument {
            lend_and_look(thread, stack);
        }
        // SAFETY: the children are gone.
        unsafe { stack.unmap() }.unwrap();
    }
    init(ctx);
    let rounds = ctx.scale(200, 15, 0) as usize;
    joined_at_once::<6>(STACK, body, rounds);
}

pub fn handlers(ctx: &Ctx) {
    static RUN: AtomicU32 = AtomicU32::new(0);
    unsafe extern "C" fn read(_: i32, _: *mut siginfo_t, _: *mut u8) {
        RUN.fetch_add(1, Relaxed);
        let Some(hooked) = hooked::here() else { return };
        RSEQ.ensure(&hooked.area).unwrap();
        // The sender is bound to one CPU.
        let (cpu, _) = sched::getcpu().unwrap();
        assert_eq!(RSEQ.current_cpu(&hooked.area), Ok(cpu));
    }
    fn hit() {
        witness::on_each_cpu(|_| kill_thread(process::gettid(), SIGUSR1 as i32).unwrap());
    }
    // SAFETY: (1) it reads and counts.
    unsafe { signals::handle(SIGUSR1 as i32, read, 0) }.unwrap();
    let thread = main_thread(ctx);
    let stack = Stack::map(STACK).unwrap();
    let rounds = ctx.scale(500, 50, 0) as u32;
    for _ in 0..rounds {
        let lent = thread.lend();
        vfork(stack, hit);
        lent.end();
        hit();
    }
    // The child counts in the same memory.
    let run = RUN.load(Relaxed);
    assert_eq!(run, rounds * witness::cpus().count() * 2);
    passed!("{run} handlers");
}

/// The broken variant: without the loan the child reads the parent's CPU.
pub fn naive(ctx: &Ctx) {
    static READ: AtomicU32 = AtomicU32::new(u32::MAX);
    let thread = main_thread(ctx);
    let (area, stack, cpus) = (thread.area(), Stack::map(STACK).unwrap(), witness::cpus());
    for parent in cpus.iter() {
        for other in cpus.iter().filter(|&cpu| cpu != parent) {
            sched::allow(0, &CpuSet::one(parent)).unwrap();
            vfork(stack, || {
                sched::allow(0, &CpuSet::one(other)).unwrap();
                READ.store(RSEQ.current_cpu(area).unwrap(), Relaxed);
            });
            assert_eq!(READ.load(Relaxed), parent, "read on {other}");
        }
    }
}

/// The broken variant: the child registers and unregisters the parent's area, as a lazy library in it would.
pub fn registers(ctx: &Ctx) {
    const REPAIRED: i32 = 3;
    let broken = |config: Config| {
        let thread = main_thread_with(config);
        let area = thread.area();
        vfork(Stack::map(STACK).unwrap(), || {
            for flags in [0, 1] {
                // SAFETY: (1) undone before the child ends; (2) violated: the parent's registration suffers.
                unsafe { rseq(at(area), RSEQ.length(), flags, arch::SIGNATURE) }.unwrap();
            }
        });
        witness::migrate(witness::cpus());
        // Repaired at the first migration, if the kernel does that.
        assert!(witness::cpus().has(RSEQ.current_cpu(area).unwrap()));
        exit_group(REPAIRED);
    };
    let config = hooked::config(ctx.env);
    let legacy = forked(|| broken(config.legacy_length()));
    assert_eq!(legacy, Ok(witness::end_with_length_32(ctx.facts, REPAIRED)));
    if !witness::kills_for_stores(ctx.facts) {
        let status = forked(|| broken(config));
        assert_eq!(status, Ok(Status::Exited(REPAIRED)));
        passed!("the parent survives here");
        return;
    }
    must_die(SIGSEGV as i32, || broken(config));
    match ctx.facts.strict {
        true => passed!("the parent is killed, with length 32 too"),
        false => passed!("the parent is killed, and survives with length 32"),
    }
}
