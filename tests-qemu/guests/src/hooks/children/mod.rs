//! fork(2): the child has the registration of the forking thread, and the memory of all the others.

pub mod exec;
mod vfork;

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;
use linux_raw_sys::general::{MADV_DONTFORK, MADV_WIPEONFORK, SIGSEGV};

use rseq_rt::{Area, Config, Error, State, Thread};

pub use super::common::look;
use super::common::{
    self, Gate, Hooks as _, area_on_a_page, at, detached, init, init_with, joined, main_thread,
};
use crate::harness::{Ctx, Needs, Test, forked, must_die, must_pass, passed, skip};
use crate::hooked::{self, Hooked, RSEQ};
use crate::sys::mm;
use crate::sys::process::Status;
use crate::sys::sched::{self, CpuSet};
use crate::witness;

const KERNEL: Needs = Needs::REAL_KERNEL;
const ON_TWO_CPUS: Needs = Needs::RSEQ.cpus(2);
/// With shared memory: under qemu-user a vfork child has its own.
const SHARED: Needs = ON_TWO_CPUS.and(KERNEL);
/// Under qemu-user execve(2) cannot start a guest image.
const EXEC: Needs = Needs::RSEQ.and(KERNEL);

/// qemu-user's own threads do not survive what two of the fork tests do: a fork among others, and a thread in the child
/// that gets the number of one that was not copied (its assertions say so).
#[rustfmt::skip] // a table
pub const TESTS: &[Test] = &[
    Test::new("children/fork-keeps-the-registration", from_main),
    Test::new("children/fork-from-a-thread", from_thread),
    Test::new("children/fork-child-reclaims-the-others", reclaim).needs(KERNEL),
    Test::new("children/fork-amid-creations", amid_creations).needs(KERNEL),
    Test::new("children/area-left-out-of-fork-kills", left_out).needs(ON_TWO_CPUS),
    Test::new("children/area-wiped-at-fork", wiped).needs(ON_TWO_CPUS),
    Test::new("children/vfork-lent-is-right", vfork::lent).needs(KERNEL),
    Test::new("children/vfork-from-threads-at-once", vfork::from_threads).needs(KERNEL),
    Test::new("children/vfork-handlers-are-right", vfork::handlers).needs(KERNEL),
    Test::new("children/vfork-naive-read-is-wrong", vfork::naive).needs(SHARED),
    Test::new("children/vfork-child-that-registers", vfork::registers).needs(SHARED),
    Test::new("children/exec-starts-unregistered", exec::from_main).needs(EXEC),
    Test::new("children/exec-from-a-thread-among-others", exec::from_thread).needs(EXEC),
    Test::new("children/posix-spawn-from-threads-at-once", exec::spawns).needs(EXEC),
];

const STACK: usize = 32 * 1024;
/// The exit code of a child whose checks all passed.
const ALL_RIGHT: i32 = 7;

/// The fork child: everything is valid, nothing to redo, and its own exit.
fn child(area: &Area) -> ! {
    common::is_right(area);
    let again = RSEQ.create(area);
    assert_eq!(again.unwrap_err(), Error::AlreadyCreated);
    joined(STACK, look, 0);
    detached(STACK, look, 0);
    let thread = RSEQ.thread_of(area).unwrap();
    let gone = hooked::release(thread).unwrap();
    assert!(!witness::kernel_knows(area));
    // SAFETY: (1) nothing on this stack waits to be dropped.
    unsafe { gone.exit(ALL_RIGHT) }
}

/// Forks, and checks that the child's life and end change nothing here.
fn fork_and_look(area: &Area) {
    let status = forked(|| child(area));
    assert_eq!(status, Ok(Status::Exited(ALL_RIGHT)), "the child");
    common::is_right(area);
}

fn from_main(ctx: &Ctx) {
    let thread = main_thread(ctx);
    for _ in 0..ctx.scale(200, 20, 10) {
        fork_and_look(thread.area());
    }
}

fn from_thread(ctx: &Ctx) {
    fn body(thread: &Thread<'_>, _: &Hooked) {
        fork_and_look(thread.area());
    }
    init(ctx);
    for _ in 0..ctx.scale(200, 20, 10) {
        joined(STACK, body, 0);
    }
}

fn reclaim(ctx: &Ctx) {
    fn wait(_: &Thread<'_>, hooked: &Hooked) {
        // SAFETY: the gate of a round, which ends with the join of this thread.
        let gate = unsafe { &*core::ptr::with_exposed_provenance::<Gate>(hooked.argument) };
        gate.pass();
    }
    fn in_child(other: &hooked::Joinable) {
        let hooked = other.hooked();
        // Clear-tid never comes for a thread that was not copied.
        assert!(hooked.clear_tid.try_reclaim().is_none());
        // SAFETY: (1) a fork child, and `other` did not fork.
        let (mut stack, reclaimed) = unsafe { other.reclaim_in_fork_child() };
        // SAFETY: (1) its thread is proven gone, and nobody has used the area since.
        unsafe { reclaimed.recycle(&hooked.area) };
        assert_eq!(hooked.area.state(), State::Unregistered);
        // The very same memory, for three threads in turn.
        for _ in 0..3 {
            let next = hooked::start_joinable_on(stack, look, 0).unwrap();
            (stack, _) = next.join_keeping_stack().unwrap();
        }
        // SAFETY: joined, so nobody uses it.
        unsafe { stack.unmap() }.unwrap();
    }
    init(ctx);
    for _ in 0..ctx.scale(100, 10, 10) {
        let gate = Gate::new();
        let argument = core::ptr::from_ref(&gate).expose_provenance();
        let other = hooked::start_joinable(STACK, wait, argument).unwrap();
        gate.wait_for(1);
        must_pass(|| in_child(&other));
        gate.open();
        other.join().unwrap();
    }
}

fn amid_creations(ctx: &Ctx) {
    static OVER: AtomicU32 = AtomicU32::new(0);
    fn forks(thread: &Thread<'_>, hooked: &Hooked) {
        for _ in 0..hooked.argument {
            fork_and_look(thread.area());
        }
    }
    fn creates(_: &Thread<'_>, _: &Hooked) {
        while OVER.load(Relaxed) == 0 {
            joined(STACK, |_, _| {}, 0);
        }
    }
    init(ctx);
    let rounds = ctx.scale(60, 5, 5) as usize;
    let start = |body, argument| hooked::start_joinable(STACK, body, argument).unwrap();
    let creators: [_; 2] = core::array::from_fn(|_| start(creates, 0));
    let forkers: [_; 4] = core::array::from_fn(|_| start(forks, rounds));
    for forker in forkers {
        forker.join().unwrap();
    }
    OVER.store(1, Relaxed);
    for creator in creators {
        creator.join().unwrap();
    }
}

/// The main thread's area, created on its own page, with `advice` for fork.
fn lone_area(advice: u32) -> &'static Area {
    let area = area_on_a_page();
    let _ = RSEQ.create(area).unwrap();
    // SAFETY: advise (1) all bytes zero is an area, and a child without the page dies, as intended.
    unsafe { mm::advise(at(area), mm::page_size(), advice) }.unwrap();
    area
}

/// The broken variant of a runtime: its control blocks are not copied to fork children.
fn left_out(ctx: &Ctx) {
    init(ctx);
    let area = lone_area(MADV_DONTFORK);
    must_die(SIGSEGV as i32, || witness::migrate(witness::cpus()));
    common::is_right(area);
}

/// Zeroed in the child, the area looks new although the kernel knows it. With length 32 the create hook starts clean;
/// with more, the zeroes count as a store, and the child dies at its first migration.
fn wiped(ctx: &Ctx) {
    let config = hooked::config(ctx.env);
    // The kernel's debug mode tolerates neither length.
    if !ctx.facts.strict {
        must_pass(|| anew(config.legacy_length()));
    }
    if !witness::kills_for_stores(ctx.facts) {
        return;
    }
    init(ctx);
    let (area, cpus) = (lone_area(MADV_WIPEONFORK), witness::cpus());
    // Zeroes are the true ids of a thread on CPU 0, and pass unnoticed.
    let Some(last) = cpus.iter().last() else {
        skip!("no CPU");
    };
    sched::allow(0, &CpuSet::one(last)).unwrap();
    must_die(SIGSEGV as i32, || witness::migrate(cpus));
    sched::allow(0, &cpus).unwrap();
    common::is_right(area);
    match ctx.facts.strict {
        true => passed!("the child is killed"),
        false => passed!("the child is killed, and starts clean with length 32"),
    }
}

fn anew(config: Config) {
    init_with(config);
    let area = lone_area(MADV_WIPEONFORK);
    must_pass(|| {
        assert_eq!(area.state(), State::Unregistered);
        let _ = RSEQ.create(area).unwrap();
        common::is_right(area);
    });
    common::is_right(area);
}
