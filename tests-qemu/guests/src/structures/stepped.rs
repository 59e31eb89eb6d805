//! Each operation of each structure, single-stepped from its first instruction to its last: it ends, with the right
//! result. Every stop aborts the section that it hits, so an operation that ends at all has given up on its slot and
//! taken the overflow slot.

use core::ptr::NonNull;

use rseq_rt::Area;
use rseq_rt::percpu::{CpuId, Current, Index, MmCid, SectionSupport};
use rseq_rt::structures::{Fence, Node, PopError};

use super::crowd::{SLOTS, place_mut};
use super::fresh;
use crate::harness::{Ctx, Needs, Test, passed, skip};
use crate::hooked::{self, RSEQ};
use crate::hooks::common::Hooks as _;
use crate::stepper::{Stepper, stop};
use crate::sys::process::{self, Status, exit_group};
use crate::sys::ptrace;
use crate::sys::sched::{self, CpuSet};
use crate::witness;

pub const TESTS: &[Test] =
    &[Test::new("structures/single-stepped", stepped).needs(Needs::RSEQ.and(Needs::PTRACE))];

/// Far more than any operation has with all its restarts.
const MOST: u32 = 10_000;
/// The number of operations that the child steps through.
const OPERATIONS: u32 = 9;
const ALL_RIGHT: i32 = 7;

type Here<I> = Current<'static, I>;

/// One operation between two stops.
fn slowly<T>(operation: impl FnOnce() -> T) -> T {
    stop();
    let result = operation();
    stop();
    result
}

fn counter<I: Index>(here: Here<I>) {
    let counter = fresh::counter::<I>();
    slowly(|| counter.add(here, 5));
    assert_eq!((counter.sum(), counter.overflowed()), (5, 5), "an add");
    slowly(|| counter.sub(here, 2));
    assert_eq!((counter.sum(), counter.overflowed()), (3, 3), "a sub");
}

fn list<I: Index>(here: Here<I>) {
    let list = fresh::list::<u32, I>();
    let nodes: [NonNull<Node<u32>>; 2] = [place_mut(Node::new(1)), place_mut(Node::new(2))];
    let [in_slot, shared] = nodes;
    let no_slot_has_any = || (0..SLOTS).all(|slot| list.looks_empty(Some(slot)));
    // SAFETY: push_ptr (1), here and below: in no list, and stays.
    slowly(|| unsafe { list.push_ptr(here, shared) });
    assert!(no_slot_has_any(), "a push: into a slot");
    assert_eq!(list.take_overflow().count(), 1, "a push: lost");
    // One for the slot, retried: aborts are rare.
    loop {
        // SAFETY: as above.
        unsafe { list.push_ptr(here, in_slot) };
        if list.take_overflow().count() == 0 {
            break;
        }
    }
    // SAFETY: as above.
    unsafe { list.push_ptr(None::<Here<I>>, shared) };
    let value = |popped: Result<&mut Node<u32>, PopError>| popped.map(|node| node.value);
    let popped = slowly(|| value(list.pop(here)));
    assert_eq!(popped, Ok(2), "a pop: not of the overflow slot");
    let popped = slowly(|| value(list.pop(here)));
    assert_eq!(
        popped,
        Err(PopError::Busy),
        "a pop: the overflow slot is empty, and the other one out of reach"
    );
    assert!(
        !no_slot_has_any() && value(list.pop(here)) == Ok(1),
        "a pop: the slot was touched"
    );
}

fn buffer<I: Index>(here: Here<I>, fence: &Fence) {
    let buffer = fresh::buffer::<u32, 14, I>();
    let (in_slot, shared) = (place_mut(1u32), place_mut(2u32));
    let in_slots = || -> usize {
        let drained = |slot| buffer.drain(slot, fence, |_| ()).unwrap_or(0);
        (0..SLOTS).map(drained).sum()
    };
    let in_overflow = || buffer.drain_overflow(None::<Here<I>>, |_| ());
    let pushed = slowly(|| buffer.push(here, shared).is_ok());
    assert!(pushed && in_overflow() == 1, "a push: lost");
    assert_eq!(in_slots(), 0, "a push: into a slot");
    loop {
        buffer.push(here, in_slot).unwrap();
        if in_overflow() == 0 {
            break;
        }
    }
    buffer.push(None::<Here<I>>, shared).unwrap();
    let popped = slowly(|| buffer.pop(here));
    assert_eq!(popped, Ok(shared), "a pop: not of the overflow slot");
    let popped = slowly(|| buffer.pop(here));
    assert_eq!(
        popped,
        Err(PopError::Busy),
        "a pop: the overflow slot is empty, and the other one out of reach"
    );
    assert_eq!(in_slots(), 1, "a pop: the slot was touched");
}

fn bytes<I: Index>(here: Here<I>, fence: &Fence) {
    let bytes = fresh::bytes::<112, I>();
    let record = *b"a record of more than a word";
    let pushed = slowly(|| bytes.push(here, &record).is_ok());
    assert!(pushed, "a record: refused");
    let mut whole = false;
    let found = bytes.drain_overflow(|found| whole = found == record);
    assert!(found.is_ok() && whole, "a record: not in the overflow slot");
    let drained = |slot| bytes.drain(slot, fence, |_| ()).unwrap_or(0);
    let in_slots: usize = (0..SLOTS).map(drained).sum();
    assert_eq!(in_slots, 0, "a record: into a slot");
}

fn child<I: Index>() -> ! {
    process::no_core_dump();
    static AREA: Area = Area::new();
    let cpu = witness::cpus().iter().next().unwrap();
    sched::allow(0, &CpuSet::one(cpu)).unwrap();
    let _ = RSEQ.create(&AREA).unwrap();
    let here = RSEQ.current_of::<I>(&AREA).unwrap();
    let fence = Fence::register();
    ptrace::trace_me().unwrap();
    counter(here);
    list(here);
    buffer(here, &fence);
    bytes(here, &fence);
    exit_group(ALL_RIGHT)
}

fn stepped(ctx: &Ctx<'_>) {
    assert_eq!(RSEQ.init(hooked::config(ctx.env)), Ok(None));
    if RSEQ.allow_sections() != SectionSupport::Allowed {
        skip!("this kernel may run no sections");
    }
    let cpu = witness::cpus().iter().next().unwrap();
    if cpu as usize >= SLOTS {
        skip!("there is no slot for CPU {cpu}");
    }
    let (mut steps, mut longest) = (0, 0);
    let bodies: [fn() -> !; 2] = [child::<CpuId>, child::<MmCid>];
    let indices = if ctx.facts.feature_size >= 28 { 2 } else { 1 };
    for body in bodies.into_iter().take(indices) {
        // SAFETY: start (1) the test is a process of its own.
        let mut child = unsafe { Stepper::start(body) }.unwrap();
        child.move_with_tracer(cpu).unwrap();
        let mut operations = 0;
        while child.stands() {
            let before = child.steps;
            assert!(
                !child.step(MOST).unwrap(),
                "operation {} is not over after {MOST} steps",
                operations + 1
            );
            operations += 1;
            longest = longest.max(child.steps - before);
            // The stop after the operation.
            if child.stands() {
                child.run().unwrap();
            }
        }
        let end = Status::Exited(ALL_RIGHT);
        assert_eq!(child.status, end, "after {operations} operations");
        assert_eq!(operations, OPERATIONS);
        steps += child.steps;
    }
    passed!("{steps} steps, at most {longest} for one operation; each by the overflow slot");
}
