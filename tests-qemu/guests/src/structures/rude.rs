//! An unregistered thread that runs a section anyway: the broken variant of the overflow path.

use core::ptr::NonNull;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use rseq_rt::percpu::{CpuId, Current, SectionSupport};
use rseq_rt::structures::{FreeList, Node};
use rseq_rt::{Thread, arch};

use super::crowd::{self, SLOTS, place, place_mut};
use super::fresh;
use super::slow::{Slow, Stop};
use crate::harness::{Ctx, Needs, Test, passed, skip};
use crate::hooked::{self, Hooked, RSEQ};
use crate::sys::rseq::rseq;
use crate::sys::sched::{self, CpuSet};
use crate::witness;

pub const TESTS: &[Test] =
    &[Test::new("structures/unregistered-in-a-slot", rude)
        .needs(Needs::RSEQ.and(Needs::REAL_KERNEL))];

const STACK: usize = 64 * 1024;
/// More steps than a pop has.
const STEPS: u32 = 14;
/// The second thread stays registered.
const POLITE: usize = 0;
/// It unregisters, and its area keeps showing the CPU.
const RUDE: usize = 1;

struct Subject {
    list: FreeList<'static, u32>,
    stop: Stop,
    cpu: u32,
    /// The second thread's nodes plus 1, once it is done.
    got: AtomicU32,
}

fn current<'a>(thread: &'a Thread<'_>) -> Option<Current<'a, CpuId>> {
    // SAFETY: Thread::current (1): nothing is lent; the unregistered thread's use of it is the test.
    unsafe { thread.current() }
}

/// Pops, stopping in the middle of it.
fn second(thread: &Thread<'_>, hooked: &Hooked) {
    // SAFETY: subject (1) `pair`.
    let subject = unsafe { crowd::subject::<Subject>() };
    sched::allow(0, &CpuSet::one(subject.cpu)).unwrap();
    let current = current(thread).unwrap();
    if hooked.argument == RUDE {
        let area = thread.area().as_rseq().cast_mut().cast();
        // SAFETY: rseq (1) nothing is written any more; (2) this thread's own registration.
        unsafe { rseq(area, RSEQ.length(), 1, arch::SIGNATURE) }.unwrap();
        let ids = witness::rseq_of(thread.area());
        ids.cpu_id.store(subject.cpu as i32, Relaxed);
    }
    let stop = &subject.stop;
    let got = subject.list.pop(Slow { current, stop }).is_ok();
    subject.got.store(1 + u32::from(got), Release);
}

/// While the second thread is stopped before `step`, the first one, on the same CPU, pops as well. Returns which of
/// them got the only node; `None` if a pop has no such step.
fn pair(cpu: u32, argument: usize, step: u32) -> Option<(bool, bool)> {
    let subject = place(Subject {
        list: fresh::list(),
        stop: Stop::new(),
        cpu,
        got: AtomicU32::new(0),
    });
    crowd::set_subject(subject);
    let here = crowd::current::<CpuId>();
    let node: NonNull<Node<u32>> = place_mut(Node::new(7));
    // SAFETY: push_ptr (1): in no list, and stays.
    unsafe { subject.list.push_ptr(here, node) };
    subject.stop.arm(step);
    let thread = hooked::start_joinable(STACK, second, argument).unwrap();
    // One CPU: whoever waits lets the other run.
    sched::wait_until(|| subject.stop.is_there() || subject.got.load(Acquire) != 0);
    let was_there = subject.stop.is_there();
    let first = subject.list.pop(here).is_ok();
    subject.stop.release();
    thread.join().unwrap();
    let second = subject.got.load(Acquire) > 1;
    was_there.then_some((first, second))
}

fn rude(ctx: &Ctx<'_>) {
    crowd::begin(ctx);
    if RSEQ.section_support() != SectionSupport::Allowed {
        skip!("this kernel is known to abort no sections");
    }
    let cpu = witness::cpus().iter().next().unwrap();
    assert!((cpu as usize) < SLOTS, "no slot for CPU {cpu}");
    sched::allow(0, &CpuSet::one(cpu)).unwrap();
    let (mut steps, mut twice) = (0u32, 0u32);
    for step in 1..=STEPS {
        if let Some(got) = pair(cpu, POLITE, step) {
            steps += 1;
            assert_eq!(got, (true, false), "a registered thread at step {step}");
        }
        if let Some((first, second)) = pair(cpu, RUDE, step) {
            twice += u32::from(first && second);
        }
    }
    assert!(twice > 0, "no node was given twice in {steps} steps");
    passed!("given twice at {twice} of {steps} steps; never by a registered thread");
}
