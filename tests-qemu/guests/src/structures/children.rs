//! Threads that must not touch a slot do not: a vfork child, a thread past its exit hook, an unregistered one.

use rseq_rt::percpu::{CpuId, Current};
use rseq_rt::structures::{Counter, Fence, FreeList, Node};
use rseq_rt::{Area, ExitMode, State, Thread};

use super::crowd::{self, SLOTS, place, place_mut};
use super::fresh;
use crate::harness::{Ctx, Needs, Test, passed, vforked};
use crate::hooked::{self, Hooked, RSEQ};
use crate::stack::Stack;
use crate::sys::process::Status;
use crate::sys::sched::{self, CpuSet};
use crate::witness;

pub const TESTS: &[Test] = &[
    Test::new("structures/vfork-child-overflows", lent).needs(Needs::REAL_KERNEL),
    Test::new("structures/exiting-thread-overflows", exiting),
    Test::new("structures/slot-of-an-absent-cpu", absent),
];

const STACK: usize = 64 * 1024;

struct Subject {
    counter: Counter<'static>,
    list: FreeList<'static, u32>,
}

fn subject() -> &'static Subject {
    let subject = place(Subject {
        counter: fresh::counter(),
        list: fresh::list(),
    });
    crowd::set_subject(subject);
    subject
}

/// The calling thread's sections, which its state may forbid.
fn current(area: &Area) -> Option<Current<'_, CpuId>> {
    // SAFETY: current (1) the caller's own, or that of the parent, which is suspended; (2) used at once.
    unsafe { RSEQ.current(area) }
}

fn lent(ctx: &Ctx<'_>) {
    crowd::begin(ctx);
    let subject = subject();
    let stack = Stack::map(STACK).unwrap();
    let hooked = hooked::here().unwrap();
    // SAFETY: current_thread (1) the main thread's; (2) `begin` has dropped its own.
    let thread = unsafe { RSEQ.current_thread(&hooked.area) }.unwrap();
    let node = place_mut(Node::new(7));
    for round in 0..ctx.scale(200, 20, 0) as usize {
        let before = subject.counter.overflowed();
        let lent = thread.lend();
        let status = vforked(stack, || {
            let here = current(&hooked.area);
            assert!(here.is_none());
            // On a CPU other than the frozen one.
            for cpu in witness::cpus().iter() {
                sched::allow(0, &CpuSet::one(cpu)).unwrap();
                subject.counter.add(here, 1);
            }
            if round.is_multiple_of(2) {
                // SAFETY: push_ptr (1): in no list at even rounds, and stays.
                unsafe { subject.list.push_ptr(here, node) };
            } else {
                subject.list.pop(here).unwrap();
            }
        });
        lent.end();
        assert_eq!(status, Ok(Status::Exited(0)), "the child");
        let added = subject.counter.overflowed() - before;
        let cpus = witness::cpus().count() as usize;
        assert_eq!(added, cpus, "additions by overflow");
        let registered = matches!(thread.state(), State::Registered(_));
        subject.counter.add(current(&hooked.area), 1);
        let overflowed = subject.counter.overflowed() - before - added;
        let usable =
            RSEQ.section_support() == rseq_rt::percpu::SectionSupport::Allowed && registered;
        assert!(
            overflowed <= 1 && (usable || overflowed == 1),
            "the parent's"
        );
    }
}

fn exiting(ctx: &Ctx<'_>) {
    fn body(thread: &Thread<'_>, hooked: &Hooked) {
        // SAFETY: subject (1) `subject`.
        let subject = unsafe { crowd::subject::<Subject>() };
        subject.counter.add(current(&hooked.area), 1);
        // As a library's late handler: after the exit hook has latched the state.
        // SAFETY: current_thread (1) its own; (2) `thread` is used only to exit, which ends nothing twice.
        let again = unsafe { RSEQ.current_thread(thread.area()) }.unwrap();
        let kept = again.on_exit(ExitMode::Keep).into_kept();
        let before = subject.counter.overflowed();
        let here = current(&hooked.area);
        subject.counter.add(here, 1);
        assert!(here.is_none(), "a slot after the exit hook");
        assert_eq!(subject.counter.overflowed(), before + 1);
        // SAFETY: exit (1) nothing on this stack waits to be dropped.
        unsafe { kept.exit(0) }
    }
    crowd::begin(ctx);
    let subject = subject();
    let threads = ctx.scale(100, 10, 10) as usize;
    for _ in 0..threads {
        let thread = hooked::start_joinable(STACK, body, 0).unwrap();
        thread.join().unwrap();
    }
    assert_eq!(subject.counter.sum(), 2 * threads);
}

/// A missing CPU: the fence succeeds, and the slot is empty.
fn absent(ctx: &Ctx<'_>) {
    crowd::begin(ctx);
    let subject = subject();
    let fence = Fence::register();
    let buffer = fresh::buffer::<u32, 14, CpuId>();
    for cpu in (0..SLOTS).filter(|&cpu| !witness::cpus().has(cpu as u32)) {
        let empty = subject
            .list
            .take(cpu, &fence)
            .is_ok_and(|chain| chain.is_empty());
        assert!(empty, "the drain of CPU {cpu}");
        let drained = buffer.drain(cpu, &fence, |_| ());
        assert_eq!(drained, Ok(0), "the drain of CPU {cpu}");
    }
    let not = if fence.has_membarrier() { "" } else { "not " };
    passed!("membarrier is {not}there");
}
