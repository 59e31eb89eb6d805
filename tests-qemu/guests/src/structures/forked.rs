//! fork(2) while another thread is stopped at each step of an operation: the child has its stores, but not the thread.

use core::ptr::NonNull;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use rseq_rt::percpu::{Commit, CpuId, Current, Miss, Operation, Slots};
use rseq_rt::structures::{
    Buffer, Bytes, Fence, FreeList, Membarrier, Node, PopError, ThreadSections,
};
use rseq_rt::{Linux, Thread};

use super::crowd::{self, SLOTS, place, place_mut};
use super::fresh;
use super::slow::{Slow, Stop};
use crate::harness::{Ctx, Test, forked, passed};
use crate::hooked::{self, Hooked, RSEQ};
use crate::sys::process::{self, Status};
use crate::sys::sched::{self, CpuSet};
use crate::witness;

pub const TESTS: &[Test] = &[
    Test::new("structures/fork-child-of-a-free-list", free_list),
    Test::new("structures/fork-child-of-a-buffer", buffer),
    Test::new("structures/fork-child-of-bytes", bytes),
    Test::new("structures/fork-child-without-the-repair", broken),
];

const STACK: usize = 64 * 1024;
/// More than any operation has.
const STEPS: u32 = 60;
/// Items in the slot, in the overflow slot, and brought by the thread.
const IN_SLOT: usize = 2;
const IN_OVERFLOW: usize = 2;
const ALL: usize = IN_SLOT + IN_OVERFLOW + 1;
const BROUGHT: usize = ALL - 1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Do {
    Push,
    Pop,
    Drain,
    DrainOverflow,
}

use Do::{Drain, DrainOverflow, Pop, Push};

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Section,
    Overflow,
}

use By::{Overflow, Section};

/// The thread's stop outside of a section.
struct Gate {
    left: AtomicU32,
    here: AtomicU32,
    open: AtomicU32,
}

impl Gate {
    const fn new() -> Self {
        Self {
            left: AtomicU32::new(0),
            here: AtomicU32::new(0),
            open: AtomicU32::new(0),
        }
    }

    /// One step; stops if it is the requested one.
    fn pass(&self) {
        let left = self.left.load(Relaxed);
        self.left.store(left.wrapping_sub(1), Relaxed);
        if left == 1 {
            self.here.store(1, Release);
            sched::wait_until(|| self.open.load(Acquire) != 0);
        }
    }
}

/// A thread that stops between two steps of an overflow path.
#[derive(Clone, Copy)]
struct Gated<'a> {
    current: Option<Current<'a, CpuId>>,
    gate: &'a Gate,
}

// SAFETY: ThreadSections (1) that of `Option<Current>`.
unsafe impl ThreadSections<CpuId> for Gated<'_> {
    fn index(self) -> Option<usize> {
        self.current.index()
    }

    unsafe fn run<T: Sync>(
        self,
        slots: Slots<'_, CpuId, T>,
        operation: Operation,
        commit: Commit,
    ) -> Result<*mut u8, Miss> {
        // SAFETY: (1).
        unsafe { self.current.run(slots, operation, commit) }
    }

    fn between(self) {
        self.gate.pass();
    }
}

/// The kernel's fence, with a step before and after it.
#[derive(Clone, Copy)]
struct GatedFence<'a>(&'a Gate);

// SAFETY: Membarrier (1) the kernel's answer.
unsafe impl Membarrier for GatedFence<'_> {
    fn membarrier(&self, command: u32, flags: u32, cpu: u32) -> Result<(), rseq_rt::Errno> {
        self.0.pass();
        let done = Membarrier::membarrier(&Linux, command, flags, cpu);
        self.0.pass();
        done
    }

    fn visit(&self, cpu: u32) -> Result<(), rseq_rt::Errno> {
        self.0.pass();
        Linux.visit(cpu)
    }
}

/// A structure of numbered items.
trait Things: Sync + Sized + 'static {
    fn new() -> Self;
    fn push<L: ThreadSections<CpuId>>(&self, here: L, id: usize) -> bool;
    /// One item, if the structure returns single ones.
    fn pop<L: ThreadSections<CpuId>>(&self, here: L) -> Result<usize, PopError>;
    /// Passes all items of a slot to `each`; `false` if it is refused.
    fn drain<K: Membarrier>(&self, slot: usize, fence: &Fence<K>, each: impl FnMut(usize)) -> bool;
    fn drain_overflow(&self, each: impl FnMut(usize)) -> bool;
    /// # Safety
    /// 1. Those of `repair_in_fork_child`.
    unsafe fn repair(&self);
}

struct List {
    list: FreeList<'static, usize>,
    nodes: [NonNull<Node<usize>>; ALL + 1],
}

// SAFETY: the nodes are accessed through the list.
unsafe impl Sync for List {}

impl Things for List {
    fn new() -> Self {
        let mut nodes = [NonNull::dangling(); ALL + 1];
        for (id, node) in nodes.iter_mut().enumerate() {
            *node = place_mut(Node::new(id));
        }
        Self {
            list: fresh::list(),
            nodes,
        }
    }

    fn push<L: ThreadSections<CpuId>>(&self, here: L, id: usize) -> bool {
        // SAFETY: push_ptr (1): each is pushed once, and stays.
        unsafe { self.list.push_ptr(here, self.nodes[id]) };
        true
    }

    fn pop<L: ThreadSections<CpuId>>(&self, here: L) -> Result<usize, PopError> {
        self.list.pop(here).map(|node| node.value)
    }

    fn drain<K: Membarrier>(&self, slot: usize, fence: &Fence<K>, each: impl FnMut(usize)) -> bool {
        let taken = self.list.take(slot, fence);
        // A broken list may be a ring.
        taken
            .map(|chain| chain.take(2 * ALL).map(|node| node.value).for_each(each))
            .is_ok()
    }

    fn drain_overflow(&self, each: impl FnMut(usize)) -> bool {
        let taken = self.list.take_overflow().take(2 * ALL);
        taken.map(|node| node.value).for_each(each);
        true
    }

    unsafe fn repair(&self) {
        // SAFETY: repair_in_fork_child (1, 2) by (1).
        unsafe { self.list.repair_in_fork_child() };
    }
}

struct Pointers {
    buffer: Buffer<'static, usize, 14>,
    ids: NonNull<[usize; ALL + 1]>,
}

// SAFETY: the ids are read only.
unsafe impl Sync for Pointers {}

fn id(pointer: NonNull<usize>) -> usize {
    // SAFETY: one of the ids, which stay.
    unsafe { *pointer.as_ref() }
}

impl Things for Pointers {
    fn new() -> Self {
        Self {
            buffer: fresh::buffer(),
            ids: place_mut(core::array::from_fn(|id| id)),
        }
    }

    fn push<L: ThreadSections<CpuId>>(&self, here: L, id: usize) -> bool {
        // SAFETY: within the array, as the callers ensure.
        let pointer = unsafe { self.ids.cast::<usize>().add(id.min(ALL)) };
        self.buffer.push(here, pointer).is_ok()
    }

    fn pop<L: ThreadSections<CpuId>>(&self, here: L) -> Result<usize, PopError> {
        self.buffer.pop(here).map(id)
    }

    fn drain<K: Membarrier>(
        &self,
        slot: usize,
        fence: &Fence<K>,
        mut each: impl FnMut(usize),
    ) -> bool {
        let drained = self.buffer.drain(slot, fence, |pointer| each(id(pointer)));
        drained.is_ok()
    }

    fn drain_overflow(&self, mut each: impl FnMut(usize)) -> bool {
        let here = None::<Current<'_, CpuId>>;
        self.buffer
            .drain_overflow(here, |pointer| each(id(pointer)));
        true
    }

    unsafe fn repair(&self) {
        // SAFETY: repair_in_fork_child (1, 2) by (1).
        unsafe { self.buffer.repair_in_fork_child() };
    }
}

struct Log(Bytes<'static, 112>);

/// Two bytes that belong together; an invalid pair has the number 99.
fn record(id: usize) -> [u8; 2] {
    [id as u8, !(id as u8)]
}

fn ids(bytes: &[u8], mut each: impl FnMut(usize)) {
    for record in bytes.chunks(2) {
        match *record {
            [id, not] if id == !not => each(id.into()),
            _ => each(99),
        }
    }
}

impl Things for Log {
    fn new() -> Self {
        Self(fresh::bytes())
    }

    fn push<L: ThreadSections<CpuId>>(&self, here: L, id: usize) -> bool {
        self.0.push(here, &record(id)).is_ok()
    }

    fn pop<L: ThreadSections<CpuId>>(&self, _: L) -> Result<usize, PopError> {
        Err(PopError::Empty)
    }

    fn drain<K: Membarrier>(&self, slot: usize, fence: &Fence<K>, each: impl FnMut(usize)) -> bool {
        self.0.drain(slot, fence, |bytes| ids(bytes, each)).is_ok()
    }

    fn drain_overflow(&self, each: impl FnMut(usize)) -> bool {
        self.0.drain_overflow(|bytes| ids(bytes, each)).is_ok()
    }

    unsafe fn repair(&self) {
        // SAFETY: repair_in_fork_child (1, 2) by (1).
        unsafe { self.0.repair_in_fork_child() };
    }
}

struct Subject<S: 'static> {
    things: S,
    what: Do,
    by: By,
    /// The CPU of the thread, whose slot is drained.
    cpu: u32,
    gate: Gate,
    stop: Stop,
    filled: AtomicU32,
    go: AtomicU32,
    ended: AtomicU32,
}

/// The thread: fills the structure, and does one operation.
fn worker<S: Things>(thread: &Thread<'_>, _: &Hooked) {
    // SAFETY: subject (1) `stand`.
    let subject = unsafe { crowd::subject::<Subject<S>>() };
    let things = &subject.things;
    sched::allow(0, &CpuSet::one(subject.cpu)).unwrap();
    // SAFETY: Thread::current (1): nothing is lent.
    let current: Option<Current<'_, CpuId>> = unsafe { thread.current() };
    for id in 0..IN_SLOT {
        things.push(current, id);
    }
    for id in IN_SLOT..BROUGHT {
        things.push(None::<Slow<'_>>, id);
    }
    subject.filled.store(1, Release);
    sched::wait_until(|| subject.go.load(Acquire) != 0);
    let slow = current.map(|current| Slow {
        current,
        stop: &subject.stop,
    });
    let gated = Gated {
        current: None,
        gate: &subject.gate,
    };
    let gone = |_| subject.gate.pass();
    let _ = match (subject.what, subject.by) {
        (Push, Section) => things.push(slow, BROUGHT),
        (Push, Overflow) => things.push(gated, BROUGHT),
        (Pop, Section) => things.pop(slow).is_ok(),
        (Pop, Overflow) => things.pop(gated).is_ok(),
        (Drain, _) => {
            let fence = Fence::register_on(GatedFence(&subject.gate));
            things.drain(subject.cpu as usize, &fence, gone)
        }
        (DrainOverflow, _) => things.drain_overflow(gone),
    };
    subject.ended.store(1, Release);
}

/// In the child everything works, nothing is duplicated, and at most `lost` items are missing.
fn works<S: Things>(things: &S, here: Option<Current<'_, CpuId>>, lost: usize) -> bool {
    let mut found = [0u32; 100];
    let mut count = |id: usize| {
        if let Some(found) = found.get_mut(id) {
            *found += 1;
        }
    };
    // A single thread never finds the structure busy.
    let mut popped = things.pop(here);
    for _ in 0..2 * ALL {
        let Ok(id) = popped else { break };
        count(id);
        popped = things.pop(here);
    }
    let mut right = popped == Err(PopError::Empty);
    let fence = Fence::register();
    for slot in 0..SLOTS {
        right &= things.drain(slot, &fence, &mut count);
    }
    right &= things.drain_overflow(&mut count);
    let once = found.iter().enumerate().all(|(id, &times)| {
        let most = u32::from(id < ALL);
        times <= most
    });
    let missing = found.iter().take(ALL).filter(|&&times| times == 0).count();
    // An item can be pushed and drained again, whether by a slot or not.
    let mut again = 0;
    right &= things.push(here, ALL);
    for slot in 0..SLOTS {
        right &= things.drain(slot, &fence, |_| again += 1);
    }
    right &= things.drain_overflow(|_| again += 1);
    right && once && missing <= lost && again == 1
}

/// Stops one thread at a step and forks; `None` if there is no such step, else whether the child is right.
fn stand<S: Things>((what, by): (Do, By), lost: usize, step: u32, repaired: bool) -> Option<bool> {
    let subject = place(Subject {
        things: S::new(),
        what,
        by,
        cpu: witness::cpus().iter().last().unwrap(),
        gate: Gate::new(),
        stop: Stop::new(),
        filled: AtomicU32::new(0),
        go: AtomicU32::new(0),
        ended: AtomicU32::new(0),
    });
    assert!(
        (subject.cpu as usize) < SLOTS,
        "no slot for CPU {}",
        subject.cpu
    );
    crowd::set_subject(subject);
    let thread = hooked::start_joinable(STACK, worker::<S>, 0).unwrap();
    sched::wait_until(|| subject.filled.load(Acquire) != 0);
    match by {
        Section => subject.stop.arm(step),
        Overflow => subject.gate.left.store(step, Relaxed),
    }
    subject.go.store(1, Release);
    let stands = || subject.gate.here.load(Acquire) != 0 || subject.stop.is_there();
    sched::wait_until(|| stands() || subject.ended.load(Acquire) != 0);
    let is_right = stands().then(|| {
        let status = forked(|| {
            if repaired {
                // SAFETY: repair (1): only this thread exists, and it is in no operation.
                unsafe { subject.things.repair() };
            }
            let here = crowd::current();
            // Not a panic: without the repair it has to be wrong.
            if !works(&subject.things, here, lost) {
                process::exit_group(1);
            }
        });
        status == Ok(Status::Exited(0))
    });
    subject.gate.open.store(1, Release);
    subject.stop.release();
    thread.join().unwrap();
    is_right
}

/// All steps. Returns their number, and at how many the child was wrong.
fn each_step<S: Things>(op: (Do, By), lost: usize, repaired: bool) -> (u32, u32) {
    let (mut steps, mut wrong) = (0, 0);
    for step in 1..=STEPS {
        let Some(right) = stand::<S>(op, lost, step, repaired) else {
            break;
        };
        steps += 1;
        wrong += u32::from(!right);
    }
    (steps, wrong)
}

/// An operation, and the number of items that its thread may hold.
type Case = ((Do, By), usize);

fn all_right<S: Things>(ctx: &Ctx<'_>, cases: &[Case]) {
    crowd::begin(ctx);
    let sections = RSEQ.section_support() == rseq_rt::percpu::SectionSupport::Allowed
        && ctx.facts.rseq.is_ok();
    let mut all = 0;
    for (nth, &(op, lost)) in cases.iter().enumerate() {
        if op.1 == Section && !sections {
            continue;
        }
        let (steps, wrong) = each_step::<S>(op, lost, true);
        assert!(
            steps > 0 && wrong == 0,
            "case {nth}: the child is wrong at {wrong} of {steps} steps"
        );
        all += steps;
    }
    passed!("{all} steps");
}

fn free_list(ctx: &Ctx<'_>) {
    // A pop holds the whole overflow slot; without rseq that has all items.
    let in_overflow = if ctx.facts.rseq.is_ok() {
        IN_OVERFLOW
    } else {
        BROUGHT
    };
    all_right::<List>(
        ctx,
        &[
            // Only a push puts the brought item into the list.
            ((Pop, Overflow), 1 + in_overflow),
            ((Push, Overflow), 1),
            // The last two steps come after `take`, which holds the slot's items by then.
            ((Drain, Overflow), 1 + IN_SLOT),
            ((Pop, Section), 1),
            ((Push, Section), 1),
        ],
    );
}

fn buffer(ctx: &Ctx<'_>) {
    all_right::<Pointers>(
        ctx,
        &[
            ((Pop, Overflow), 1),
            ((Push, Overflow), 1),
            // Those that the drain has taken.
            ((Drain, Overflow), 1 + IN_SLOT),
            ((Pop, Section), 1),
            ((Push, Section), 1),
        ],
    );
}

fn bytes(ctx: &Ctx<'_>) {
    all_right::<Log>(
        ctx,
        &[
            // The records of the overflow slot, around the one being written.
            ((Push, Overflow), ALL),
            ((Drain, Overflow), 1 + IN_SLOT),
            ((DrainOverflow, Overflow), ALL),
            ((Push, Section), 1),
        ],
    );
}

/// The broken variant: each of these operations leaves a state behind that must be repaired.
fn broken(ctx: &Ctx<'_>) {
    crowd::begin(ctx);
    let mut seen = 0;
    let mut see = |(steps, wrong): (u32, u32)| {
        assert!(wrong > 0, "without the repair {steps} children were right");
        seen += wrong;
    };
    see(each_step::<List>((Pop, Overflow), ALL, false));
    see(each_step::<List>((Drain, Overflow), ALL, false));
    see(each_step::<Pointers>((Drain, Overflow), ALL, false));
    see(each_step::<Log>((Push, Overflow), ALL, false));
    see(each_step::<Log>((Drain, Overflow), ALL, false));
    see(each_step::<Log>((DrainOverflow, Overflow), ALL, false));
    passed!("{seen} children found it closed for ever");
}
